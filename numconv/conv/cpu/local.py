"""Locally connected convolution and its gradients: a few samples, weights and sums at a time, each in lines that stay in cache.

A line holds what belongs to the positions of a block: the samples under one tap, one weight, one output channel, or sums of their
products. A term is a channel of x and a tap. Nothing larger than a few lines is ever unfolded.

    contract_y   y[n,o,p] = sum over i,k of w[o,i,k,p] * x[n,i,q]     tasks: blocks of positions and of output channels
    contract_w   w[o,i,k,p] = sum over n of y[n,o,p] * x[n,i,q]       the same
    contract_x   x[n,i,q] = sum over o,k,p of w[o,i,k,p] * y[n,o,p]   tasks: some channels of x, in some images

Weights and results are copied to and from lines too, because read in place their rows are often a power of two apart, and share
few sets of the cache: 6 against x GFLOP/s where there are 2048 positions.
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
from .products import BLOCK, sum_products

Array = np.ndarray[Any, Any]

_SIZES = {"x_size": 3, "w_size": 3, "y_size": 3, "stride": 3, "dilation": 3, "pad_lo": 3}
# `inside` are the first and end of the positions along the last axis whose tap lies in x, tap after tap.
JOB = Job(
    "x w y b inside scratch",
    batch=1, groups=1, c_in=1, c_out=1, **_SIZES,
    taps=1, positions=1, together=1, width=1, pitch=1, lanes=1, block=1, scratch_bytes=1,
)  # fmt: skip

_SOME = 16  # images, terms and output channels at once
_LINE = 512  # bytes in a line at most: some 300 kB of lines in all, within the second-level cache


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
    parts = -(-g.c_in // _together(g)) * -(-g.batch // _SOME)
    _run(_local_x, g, g.groups * parts, x=x, w=flat(w), y=flat(y))
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
    itemsize = np.dtype(dtype).itemsize
    width = _width(g, dtype)
    pitch = width + 64 // itemsize  # room for a vector past the end; and lines lie in different sets of the cache
    sizes |= {"taps": prod(g.w_size), "positions": prod(g.y_size), "together": _together(g)}
    sizes |= {"width": width, "pitch": pitch, "lanes": VECTOR_BYTES // itemsize, "block": BLOCK // itemsize}
    memory = (2 * _SOME + 2) * _SOME * pitch * itemsize
    job = JOB.fill(**sizes, scratch_bytes=memory, inside=inside.ctypes.data)
    return job, inside


def _width(g: ConvGeometry, dtype: Any) -> int:
    """Positions in a block: about the same in each, a whole number of what is summed at once."""
    positions, unit = prod(g.y_size), max(BLOCK, 64) // np.dtype(dtype).itemsize
    blocks = -(-positions * np.dtype(dtype).itemsize // _LINE)
    return int(-(-positions // (blocks * unit)) * unit)


def _blocks(g: ConvGeometry, dtype: Any) -> int:
    return g.groups * -(-g.c_out // _SOME) * -(-prod(g.y_size) // _width(g, dtype))


def _together(g: ConvGeometry) -> int:
    """Channels of x in a task of `contract_x`: enough to fill a block of terms."""
    return min(g.c_in, -(-_SOME // prod(g.w_size)))


@kernel(JOB)
def _local_y(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's boxes of y: some output channels of a group, at a block of positions, in all images."""
    batch, pitch, positions = job.batch, job.pitch, job.positions
    terms, channels = job.c_in * job.taps, job.groups * job.c_out
    samples = pointer(job.scratch + np.uint64(worker * job.scratch_bytes), like)
    sums, weights = at(samples, _SOME * _SOME * pitch), at(samples, 2 * _SOME * _SOME * pitch)
    w, y, b, biased = pointer(job.w, like), pointer(job.y, like), pointer(job.b, like), job.b != 0
    tasks = job.groups * box_count(job)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        group, o_first, o_end, p = box(job, task)
        n_p = min(job.width, positions - p)
        for n_first in range(0, batch, _SOME):
            images = min(batch - n_first, _SOME)
            if biased:
                for o in range(o_first, o_end):
                    for n in range(images):
                        copy(at(sums, ((o - o_first) * _SOME + n) * pitch), at(b, o * positions + p), n_p)
            for t in range(0, terms, _SOME):
                count = min(terms - t, _SOME)
                take_samples(job, like, samples, group * job.c_in, n_first, images, t, count, p, n_p)
                for o in range(o_first, o_end, 2):
                    rows = min(2, o_end - o)
                    for i in range(rows):
                        take_rows(job, weights, i * _SOME, at(w, ((o + i) * terms + t) * positions + p), positions, count, n_p)
                    for n in range(0, images, 2):
                        sum_products(
                            at(sums, ((o - o_first) * _SOME + n) * pitch), (rows - 1) * _SOME * pitch,
                            min(1, images - 1 - n) * pitch, whole(job, n_p), weights, (rows - 1) * _SOME * pitch, pitch,
                            at(samples, n * _SOME * pitch), min(1, images - 1 - n) * _SOME * pitch, pitch, count, biased or t > 0,
                        )  # fmt: skip
            for o in range(o_first, o_end):
                for n in range(images):
                    to = at(y, ((n_first + n) * channels + o) * positions + p)
                    copy(to, at(sums, ((o - o_first) * _SOME + n) * pitch), n_p)


@kernel(JOB)
def _local_w(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's boxes of w: the weights of some output channels of a group, at a block of positions."""
    batch, pitch, positions = job.batch, job.pitch, job.positions
    terms, channels = job.c_in * job.taps, job.groups * job.c_out
    samples = pointer(job.scratch + np.uint64(worker * job.scratch_bytes), like)
    sums, cotangents = at(samples, _SOME * _SOME * pitch), at(samples, 2 * _SOME * _SOME * pitch)
    w, y = pointer(job.w, like), pointer(job.y, like)
    tasks = job.groups * box_count(job)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        group, o_first, o_end, p = box(job, task)
        n_p = min(job.width, positions - p)
        for t in range(0, terms, _SOME):
            count = min(terms - t, _SOME)
            for n in range(0, max(batch, 1), _SOME):  # once for no images, whose sum is zero
                images = min(batch - n, _SOME)
                take_samples(job, like, samples, group * job.c_in, n, images, t, count, p, n_p)
                for o in range(o_first, o_end, 2):
                    rows = min(2, o_end - o)
                    for i in range(rows):
                        first = at(y, (n * channels + o + i) * positions + p)
                        take_rows(job, cotangents, i * _SOME, first, channels * positions, images, n_p)
                    for i in range(0, count, 2):
                        sum_products(
                            at(sums, ((o - o_first) * _SOME + i) * pitch), (rows - 1) * _SOME * pitch,
                            min(1, count - 1 - i) * pitch, whole(job, n_p), cotangents, (rows - 1) * _SOME * pitch, pitch,
                            at(samples, i * pitch), min(1, count - 1 - i) * pitch, _SOME * pitch, images, n > 0,
                        )  # fmt: skip
            for o in range(o_first, o_end):
                for i in range(count):
                    copy(at(w, (o * terms + t + i) * positions + p), at(sums, ((o - o_first) * _SOME + i) * pitch), n_p)


@kernel(JOB)
def _local_x(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's planes of x: lines of sums over output channels for some terms, added where their samples lie."""
    c_in, c_out, taps, pitch, positions = job.c_in, job.c_out, job.taps, job.pitch, job.positions
    volume, channels = job.x_size[0] * job.x_size[1] * job.x_size[2], job.groups * job.c_out
    cotangents = pointer(job.scratch + np.uint64(worker * job.scratch_bytes), like)
    sums, weights = at(cotangents, _SOME * _SOME * pitch), at(cotangents, 2 * _SOME * _SOME * pitch)
    w, x, y = pointer(job.w, like), pointer(job.x, like), pointer(job.y, like)
    parts, shares = (job.batch + _SOME - 1) // _SOME, (c_in + job.together - 1) // job.together
    tasks = job.groups * shares * parts
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        share, n_first = task // parts, task % parts * _SOME
        group, first = share // shares, share % shares * job.together
        end, images = min(c_in, first + job.together), min(job.batch - n_first, _SOME)
        for n in range(n_first, n_first + images):
            zero(at(x, ((n * job.groups + group) * c_in + first) * volume), (end - first) * volume)
        for p in range(0, positions, job.width):
            n_p = min(job.width, positions - p)
            for t in range(first * taps, end * taps, _SOME):
                count = min(end * taps - t, _SOME)
                for o in range(0, c_out, _SOME):
                    summed = min(c_out - o, _SOME)
                    for n in range(images):
                        row = at(y, ((n_first + n) * channels + group * c_out + o) * positions + p)
                        take_rows(job, cotangents, n * _SOME, row, positions, summed, n_p)
                    for i in range(0, count, 2):
                        rows = min(2, count - i)
                        for j in range(rows):
                            row = at(w, ((group * c_out + o) * c_in * taps + t + i + j) * positions + p)
                            take_rows(job, weights, j * _SOME, row, c_in * taps * positions, summed, n_p)
                        for n in range(0, images, 2):
                            sum_products(
                                at(sums, (i * _SOME + n) * pitch), (rows - 1) * _SOME * pitch,
                                min(1, images - 1 - n) * pitch, whole(job, n_p), weights, (rows - 1) * _SOME * pitch, pitch,
                                at(cotangents, n * _SOME * pitch), min(1, images - 1 - n) * _SOME * pitch, pitch,
                                summed, o > 0,
                            )  # fmt: skip
                for i in range(count):
                    tap, channel = tap_of(job, (t + i) % taps), group * c_in + (t + i) // taps
                    for n in range(images):
                        plane = at(x, ((n_first + n) * job.groups * c_in + channel) * volume)
                        along_tap(job, plane, at(sums, (i * _SOME + n) * pitch), tap, place_of(job, p), n_p, True)


@njit_inner
def box_count(job: Any) -> int:
    """Return the number of boxes in a group: blocks of positions times parts of its output channels."""
    count: int = (job.positions + job.width - 1) // job.width * ((job.c_out + _SOME - 1) // _SOME)
    return count


@njit_inner
def box(job: Any, task: int) -> tuple[int, int, int, int]:
    """Return the group, first and end of the output channels in it, and first position of a task."""
    parts, boxes = (job.c_out + _SOME - 1) // _SOME, box_count(job)
    group, block, part = task // boxes, task % boxes // parts, task % parts
    return (
        group,
        group * job.c_out + part * _SOME,
        group * job.c_out + min(job.c_out, (part + 1) * _SOME),
        block * job.width,
    )


@njit_inner
def whole(job: Any, n_p: int) -> int:
    """Round a number of positions up to what is summed at once."""
    count: int = (n_p + job.block - 1) // job.block * job.block
    return count


@njit_inner
def take_rows(job: Any, lines: Any, line: int, rows: Any, step: int, count: int, n_p: int) -> None:
    """Copy `count` rows to lines from number `line` on, with zeros up to what is summed at once."""
    rest = whole(job, n_p) - n_p
    for i in range(count):
        to = at(lines, (line + i) * job.pitch)
        copy(to, at(rows, i * step), n_p)
        if rest:
            zero(at(to, n_p), rest)


@njit_inner
def take_samples(
    job: Any, like: Any, lines: Any, channel: int, n_first: int, images: int, t: int, count: int, p: int, n_p: int
) -> None:
    """Copy the samples under terms t to t + count, counted from a channel, at positions p to p + n_p of some images."""
    volume, taps, all_channels = job.x_size[0] * job.x_size[1] * job.x_size[2], job.taps, job.groups * job.c_in
    rest, place = whole(job, n_p) - n_p, place_of(job, p)
    for i in range(count):
        tap = tap_of(job, (t + i) % taps)
        for n in range(images):
            x = at(pointer(job.x, like), ((n_first + n) * all_channels + channel + (t + i) // taps) * volume)
            line = at(lines, (n * _SOME + i) * job.pitch)
            along_tap(job, x, line, tap, place, n_p, False)
            if rest:
                zero(at(line, n_p), rest)


@njit_inner
def place_of(job: Any, p: int) -> tuple[int, int, int]:
    """Return a position along each axis."""
    y1, y2 = job.y_size[1], job.y_size[2]
    return p // y2 // y1, p // y2 % y1, p % y2


@njit_inner
def tap_of(job: Any, k: int) -> tuple[int, int, int, int, int]:
    """Return where a tap lies from the window's first place on, and first and end of the positions in a row whose tap is in x."""
    w1, w2, inside = job.w_size[1], job.w_size[2], int64_pointer(job.inside)
    k2, k01 = k % w2, k // w2
    shift0, shift1 = job.dilation[0] * (k01 // w1) - job.pad_lo[0], job.dilation[1] * (k01 % w1) - job.pad_lo[1]
    return shift0, shift1, job.dilation[2] * k2 - job.pad_lo[2], inside[2 * k2], inside[2 * k2 + 1]


@njit_inner
def along_tap(
    job: Any, x: Any, line: Any, tap: tuple[int, int, int, int, int], place: tuple[int, int, int], n_p: int, back: bool
) -> None:
    """line[j] = x under a tap at position j after a place, 0 outside x; or, going back, x there += line[j]."""
    y1, y2, x0, x1, x2, stride = job.y_size[1], job.y_size[2], job.x_size[0], job.x_size[1], job.x_size[2], job.stride[2]
    shift0, shift1, shift2, inside, outside = tap
    p0, p1, p2 = place
    j = 0
    while j < n_p:
        end = min(y2, p2 + n_p - j)
        q0, q1 = job.stride[0] * p0 + shift0, job.stride[1] * p1 + shift1
        first = max(p2, inside) if 0 <= q0 < x0 and 0 <= q1 < x1 else end
        last = max(first, min(end, outside))
        samples, here = at(x, (q0 * x1 + q1) * x2 + shift2), at(line, j - p2)
        if back:
            add_row(samples, stride, here, first, last, job.lanes)
        else:
            take_row(samples, stride, here, p2, end, first, last, job.lanes)
        j, p1, p2 = j + end - p2, p1 + 1, 0
        if p1 == y1:
            p0, p1 = p0 + 1, 0


@njit_inner
def take_row(samples: Any, stride: int, line: Any, start: int, end: int, first: int, last: int, lanes: int) -> None:
    """line[j] = samples[stride * j] for start <= j < end, 0 unless first <= j < last; up to a vector is written past the end."""
    if stride == 1:
        for j in range(start, min(first, end)):
            line[j] = 0
        take_neighbours(at(samples, first), at(line, first), last - first)
        for j in range(last, end):
            line[j] = 0
    elif stride == 2:
        for j in range(start, end, lanes):
            take_vector(samples, 2, j, first, last, at(line, j))
    else:
        zero(at(line, start), end - start)
        for j in range(first, last):
            line[j] = samples[stride * j]


@njit_inner
def take_neighbours(samples: Any, to: Any, count: int) -> None:
    """Copy `count` numbers, eight at a time: a call of memcpy would take longer than most rows."""
    if count >= 8:
        for j in range(0, count - 7, 8):
            copy(at(to, j), at(samples, j), 8)
        copy(at(to, count - 8), at(samples, count - 8), 8)
    else:
        for j in range(count):
            to[j] = samples[j]


@njit_inner
def add_row(samples: Any, stride: int, line: Any, first: int, last: int, lanes: int) -> None:
    """samples[stride * j] += line[j] for first <= j < last."""
    if stride == 1:
        while first + lanes <= last:
            accumulate(at(samples, first), at(line, first))
            first += lanes
    for j in range(first, last):
        samples[stride * j] += line[j]
