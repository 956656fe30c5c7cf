"""Locally connected convolution and its gradients: the samples under a few taps at a block of positions lie as lines in cache.

A line holds the sample under one tap at each position of a block, so products with weights, which lie tap after tap and position
after position too, are of rows with rows. Nothing larger than those lines is ever unfolded.

    contract_y   y[n,o,p] = sum over i,k of w[o,i,k,p] * x[n,i,q]     tasks: blocks of positions and of output channels
    contract_w   w[o,i,k,p] = sum over n of y[n,o,p] * x[n,i,q]       the same
    contract_x   x[n,i,q] = sum over o,k,p of w[o,i,k,p] * y[n,o,p]   tasks: planes of x, those of one channel together
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..._array import flat
from ..._jit import Job, kernel, njit_inner, scratch, workers
from ..._memory import empty
from ..._simd import VECTOR_BYTES, accumulate, at, copy, int64_pointer, pointer, take_vector, zero
from ..geometry import ConvGeometry
from .products import sum_products

Array = np.ndarray[Any, Any]

_SIZES = {"x_size": 3, "w_size": 3, "y_size": 3, "stride": 3, "dilation": 3, "pad_lo": 3}
# `inside` are the first and end of the positions along the last axis whose tap lies in x, tap after tap.
JOB = Job(
    "x w y b inside scratch",
    batch=1, groups=1, c_in=1, c_out=1, **_SIZES, taps=1, positions=1, width=1, pitch=1, lanes=1, scratch_bytes=1,
)  # fmt: skip

_IMAGES, _LINES, _CHANNELS, _WIDTH = 8, 16, 16, 1024  # at once; the width of a block in bytes


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k,p] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o,p]."""
    y = empty(g.y_shape, x.dtype)
    _run(_local_y, g, _blocks(g, x.dtype), x=flat(x), w=flat(w), y=y, b=None if b is None else flat(b))
    return y


def contract_w(x: Array, y: Array, g: ConvGeometry) -> Array:
    """w[o,i,k,p] = sum over n of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
    w = empty((*g.w_shape, *g.y_size[3 - g.rank :]), x.dtype)
    _run(_local_w, g, _blocks(g, x.dtype), x=flat(x), w=w, y=flat(y))
    return w


def contract_x(y: Array, w: Array, g: ConvGeometry) -> Array:
    """x[n,i,q] = sum over the o,k,p with stride*p + dilation*k - pad_lo = q of w[o,i,k,p] * y[n,o,p]."""
    x = empty(g.x_shape, y.dtype)
    _run(_local_x, g, g.groups * g.c_in * -(-g.batch // _IMAGES), x=x, w=flat(w), y=flat(y))
    return x


def _run(kernel: Any, g: ConvGeometry, tasks: int, *, x: Array, **arrays: Array | None) -> None:
    job, _ = _plan(g, x.dtype)
    threads = workers(tasks, g.flops)
    kernel(threads, x.dtype, job, x=x, scratch=scratch(threads * int(job[-1])), **arrays)


@lru_cache(1024)
def _plan(g: ConvGeometry, dtype: Any) -> tuple[Array, Array]:
    """Return the job of a geometry, and the table whose address is in it."""
    inside = np.empty((g.w_size[2], 2), np.int64)
    for k in range(g.w_size[2]):
        shift = g.dilation[2] * k - g.pad_lo[2]
        first = min(max(0, -(shift // g.stride[2])), g.y_size[2])
        inside[k] = first, max(first, min(g.y_size[2], (g.x_size[2] - 1 - shift) // g.stride[2] + 1))
    sizes = {name: getattr(g, name) for name in ("batch", "groups", "c_in", "c_out", *_SIZES)}
    width = _width(g, dtype)
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    pitch = width + 64 // np.dtype(dtype).itemsize  # not a power of two, for lines would share few sets of the cache
    sizes |= {"taps": prod(g.w_size), "positions": prod(g.y_size), "width": width, "pitch": pitch, "lanes": lanes}
    memory = _IMAGES * _LINES * pitch * np.dtype(dtype).itemsize
    job = JOB.fill(**sizes, scratch_bytes=memory, inside=inside.ctypes.data)
    return job, inside


def _width(g: ConvGeometry, dtype: Any) -> int:
    """Positions in a block: whole cache lines, that lines begin where vectors do."""
    line = 64 // np.dtype(dtype).itemsize
    return int(min(_WIDTH // np.dtype(dtype).itemsize, -(-prod(g.y_size) // line) * line))


def _blocks(g: ConvGeometry, dtype: Any) -> int:
    return g.groups * -(-g.c_out // _CHANNELS) * -(-prod(g.y_size) // _width(g, dtype))


@kernel(JOB)
def _local_y(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's boxes of y: some output channels of a group, at a block of positions, in all images."""
    batch, c_out, width, pitch, positions = job.batch, job.c_out, job.width, job.pitch, job.positions
    terms, channels = job.c_in * job.taps, job.groups * job.c_out
    lines = pointer(job.scratch + np.uint64(worker * job.scratch_bytes), like)
    w, y, b, biased = pointer(job.w, like), pointer(job.y, like), pointer(job.b, like), job.b != 0
    tasks = job.groups * box_count(job)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        group, o_first, o_end, p = box(job, task)
        n_p = min(width, positions - p)
        for n_first in range(0, batch, _IMAGES):
            n_end = min(batch, n_first + _IMAGES)
            if biased:
                for n in range(n_first, n_end):
                    for o in range(group * c_out + o_first, group * c_out + o_end):
                        copy(at(y, (n * channels + o) * positions + p), at(b, o * positions + p), n_p)
            for t in range(0, terms, _LINES):
                count = min(terms - t, _LINES)
                take_lines(job, like, lines, group, n_first, n_end, t, count, p, n_p)
                for o in range(group * c_out + o_first, group * c_out + o_end, 2):
                    o_row, weights = min(1, group * c_out + o_end - 1 - o), at(w, (o * terms + t) * positions + p)
                    for n in range(n_first, n_end, 2):
                        n_row, to = min(1, n_end - 1 - n), at(y, (n * channels + o) * positions + p)
                        sum_products(
                            to, n_row * channels * positions, o_row * positions, n_p,
                            at(lines, (n - n_first) * _LINES * pitch), n_row * _LINES * pitch, pitch,
                            weights, o_row * terms * positions, positions, count, biased or t > 0,
                        )  # fmt: skip


@kernel(JOB)
def _local_w(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's boxes of w: the weights of some output channels of a group, at a block of positions."""
    batch, c_out, width, pitch, positions = job.batch, job.c_out, job.width, job.pitch, job.positions
    terms, channels = job.c_in * job.taps, job.groups * job.c_out
    lines = pointer(job.scratch + np.uint64(worker * job.scratch_bytes), like)
    w, y = pointer(job.w, like), pointer(job.y, like)
    tasks = job.groups * box_count(job)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        group, o_first, o_end, p = box(job, task)
        n_p = min(width, positions - p)
        for t in range(0, terms, _LINES):
            count = min(terms - t, _LINES)
            for n in range(0, max(batch, 1), _IMAGES):  # once for no images, whose sum is zero
                images = min(batch - n, _IMAGES)
                take_lines(job, like, lines, group, n, n + images, t, count, p, n_p)
                for o in range(group * c_out + o_first, group * c_out + o_end, 2):
                    o_row, cotangents = min(1, group * c_out + o_end - 1 - o), at(y, (n * channels + o) * positions + p)
                    for i in range(0, count, 2):
                        t_row, to = min(1, count - 1 - i), at(w, (o * terms + t + i) * positions + p)
                        sum_products(
                            to, o_row * terms * positions, t_row * positions, n_p,
                            cotangents, o_row * positions, channels * positions,
                            at(lines, i * pitch), t_row * pitch, _LINES * pitch, images, n > 0,
                        )  # fmt: skip


@kernel(JOB)
def _local_x(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's planes of x: a line of sums over output channels for each tap and block, added where its samples lie."""
    c_in, c_out, taps, width, pitch, positions = job.c_in, job.c_out, job.taps, job.width, job.pitch, job.positions
    volume, channels = job.x_size[0] * job.x_size[1] * job.x_size[2], job.groups * job.c_out
    lines = pointer(job.scratch + np.uint64(worker * job.scratch_bytes), like)
    w, y, parts = pointer(job.w, like), pointer(job.y, like), (job.batch + _IMAGES - 1) // _IMAGES
    tasks = job.groups * c_in * parts
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        channel, first = task // parts, task % parts * _IMAGES
        group, end = channel // c_in, min(job.batch, first + _IMAGES)
        for n in range(first, end):
            zero(at(pointer(job.x, like), (n * job.groups * c_in + channel) * volume), volume)
        for p in range(0, positions, width):
            n_p = min(width, positions - p)
            for k in range(0, taps, 2):
                k_row = min(1, taps - 1 - k)
                weights = at(w, ((group * c_out * c_in + channel % c_in) * taps + k) * positions + p)
                for n in range(first, end, 2):
                    n_row = min(1, end - 1 - n)
                    cotangents = at(y, (n * channels + group * c_out) * positions + p)
                    sum_products(
                        lines, k_row * pitch, n_row * 2 * pitch, n_p, weights, k_row * positions, c_in * taps * positions,
                        cotangents, n_row * channels * positions, positions, c_out, False,
                    )  # fmt: skip
                    for i in range(n, n + 1 + n_row):
                        x = at(pointer(job.x, like), (i * job.groups * c_in + channel) * volume)
                        for j in range(k_row + 1):
                            along_tap(job, x, at(lines, (2 * (i - n) + j) * pitch), k + j, p, n_p, True)


@njit_inner
def box_count(job: Any) -> int:
    """Return the number of boxes in a group: blocks of positions times parts of its output channels."""
    count: int = (job.positions + job.width - 1) // job.width * ((job.c_out + _CHANNELS - 1) // _CHANNELS)
    return count


@njit_inner
def box(job: Any, task: int) -> tuple[int, int, int, int]:
    """Return the group, first and end of the output channels in it, and first position of a task."""
    parts, boxes = (job.c_out + _CHANNELS - 1) // _CHANNELS, box_count(job)
    block, part = task % boxes // parts, task % parts
    return task // boxes, part * _CHANNELS, min(job.c_out, (part + 1) * _CHANNELS), block * job.width


@njit_inner
def take_lines(
    job: Any, like: Any, lines: Any, group: int, n_first: int, n_end: int, t: int, count: int, p: int, n_p: int
) -> None:
    """Copy the samples under terms t to t + count, each a channel and a tap, at positions p to p + n_p of some images."""
    volume, taps = job.x_size[0] * job.x_size[1] * job.x_size[2], job.taps
    for n in range(n_first, n_end):
        for i in range(count):
            channel, k = (n * job.groups + group) * job.c_in + (t + i) // taps, (t + i) % taps
            x = at(pointer(job.x, like), channel * volume)
            along_tap(job, x, at(lines, ((n - n_first) * _LINES + i) * job.pitch), k, p, n_p, False)


@njit_inner
def along_tap(job: Any, x: Any, line: Any, k: int, p: int, n_p: int, back: bool) -> None:
    """line[j] = x under tap k at position p + j, 0 outside x; or, going back, x there += line[j]."""
    y1, y2, x0, x1, x2, stride = job.y_size[1], job.y_size[2], job.x_size[0], job.x_size[1], job.x_size[2], job.stride[2]
    k2, k01 = k % job.w_size[2], k // job.w_size[2]
    shift0 = job.dilation[0] * (k01 // job.w_size[1]) - job.pad_lo[0]
    shift1 = job.dilation[1] * (k01 % job.w_size[1]) - job.pad_lo[1]
    shift2 = job.dilation[2] * k2 - job.pad_lo[2]
    inside = int64_pointer(job.inside)
    j, row, p2 = 0, p // y2, p % y2
    while j < n_p:
        end = min(y2, p2 + n_p - j)
        q0, q1 = job.stride[0] * (row // y1) + shift0, job.stride[1] * (row % y1) + shift1
        within = 0 <= q0 < x0 and 0 <= q1 < x1
        first = max(p2, inside[2 * k2]) if within else end
        last = max(first, min(end, inside[2 * k2 + 1]))
        samples, here = at(x, (q0 * x1 + q1) * x2 + shift2), at(line, j - p2)
        if back:
            add_samples(samples, stride, here, first, last, job.lanes)
        else:
            take_samples(samples, stride, here, p2, end, first, last, job.lanes)
        j, row, p2 = j + end - p2, row + 1, 0


@njit_inner
def take_samples(samples: Any, stride: int, line: Any, start: int, end: int, first: int, last: int, lanes: int) -> None:
    """line[j] = samples[stride * j] for start <= j < end, 0 unless first <= j < last; up to a vector is written past the end."""
    if stride == 1:
        for j in range(start, end, lanes):
            take_vector(samples, 1, j, first, last, at(line, j))
    elif stride == 2:
        for j in range(start, end, lanes):
            take_vector(samples, 2, j, first, last, at(line, j))
    else:
        zero(at(line, start), end - start)
        for j in range(first, last):
            line[j] = samples[stride * j]


@njit_inner
def add_samples(samples: Any, stride: int, line: Any, first: int, last: int, lanes: int) -> None:
    """samples[stride * j] += line[j] for first <= j < last."""
    if stride == 1:
        while first + lanes <= last:
            accumulate(at(samples, first), at(line, first))
            first += lanes
    for j in range(first, last):
        samples[stride * j] += line[j]
