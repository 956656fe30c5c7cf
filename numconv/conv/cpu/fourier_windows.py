"""Kernels between arrays and windows in pairs: samples taken in, spectra multiplied, results put back. No transform is here.

A pair is one complex window: the samples of one window are its real parts, those of the next its imaginary parts.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..._jit import Job, kernel, njit_inner
from ..._simd import at, number, pointer, zero
from ..geometry import Triple
from .fourier_plan import Plan

Array = np.ndarray[Any, Any]

CHUNK_BYTES = 1 << 14  # of spectra multiplied at a time: in the first-level cache


class Place:
    """Where windows lie on an array (image, group, channel, 3 axes), of which every `stride`-th number, by residues, is a sample.

    Window j of an image begins `start` past its first output, and `length` of its samples count.
    """

    def __init__(self, shape: tuple[int, ...], stride: Triple, start: Triple, length: Triple, per_image: int, p: Plan) -> None:
        self.residues = prod(stride)
        steps = prod(shape[1:]), prod(shape[2:]), prod(shape[3:])
        told = {"extent": shape[3:], "stride": stride, "start": start, "length": length, "batch": shape[0], "a_step": steps}
        told |= {"blocks": p.blocks, "step": p.step, "size": p.size, "per_image": per_image, "channels": shape[2]}
        self._job = _PLACE.fill(**dict.fromkeys(_OF_CALL, 0), **told)  # once for all tasks: it takes 20 us

    def take(self, a: Array, first: int, windows: Array) -> None:
        """Fill pairs of windows from pair `first` on with samples of `a`, some groups and channels of the array, zero outside."""
        _take(1, a.dtype, self._told(a, first, windows), a=a, windows=windows)

    def put(self, a: Array, first: int, windows: Array, b: Array | None) -> None:
        """Write what pairs of windows hold, plus b of the channel."""
        _put(1, a.dtype, self._told(a, first, windows), a=a, windows=windows, b=b)

    def _told(self, a: Array, first: int, windows: Array) -> Array:
        job = self._job.copy()
        at = len(_PLACE.addresses)
        job[at : at + len(_OF_CALL)] = first, len(windows), *a.shape[1:3]
        return job


_OF_CALL = ("first", "pairs", "groups", "some")
_PLACE = Job(
    "a windows b",
    **dict.fromkeys((*_OF_CALL, "batch", "per_image", "channels"), 1),
    **dict.fromkeys(("blocks", "step", "size", "a_step", "extent", "stride", "start", "length"), 3),
)


@kernel(_PLACE)
def _take(worker: int, workers: int, job: Any, like: Any) -> None:
    """windows[pair, group, channel, residue, t] = a[image, group, channel, stride * (t + start of window) + residue], or 0."""
    a, to = pointer(job.a, like), pointer(job.windows, like)
    rows, line, row, stride = job.size[0], job.size[1], job.size[2], job.stride[2]
    for pair in range(job.pairs):
        for channel in range(job.groups * job.some):
            for residue in range(job.stride[0] * job.stride[1] * job.stride[2]):
                p, p0, p1, p_row, p_line, p_lo, p_hi = _box(job, 2 * (job.first + pair), channel, residue)
                q, q0, q1, q_row, q_line, q_lo, q_hi = _box(job, 2 * (job.first + pair) + 1, channel, residue)
                for i in range(rows):
                    for j in range(line):
                        of_p, of_q = at(a, p + i * p_row + j * p_line), at(a, q + i * q_row + j * q_line)
                        p_end = p_hi if p0[0] <= i < p0[1] and p1[0] <= j < p1[1] else p_lo
                        q_end = q_hi if q0[0] <= i < q0[1] and q1[0] <= j < q1[1] else q_lo
                        _interleave(of_p, p_lo, p_end, of_q, q_lo, q_end, stride, to, row)
                        to = at(to, 2 * row)


@kernel(_PLACE)
def _put(worker: int, workers: int, job: Any, like: Any) -> None:
    """a[image, group, channel, stride * (t + start of window) + residue] = windows[pair, ...] + b[group, channel]."""
    a, windows, b = pointer(job.a, like), pointer(job.windows, like), pointer(job.b, like)
    line, row, stride = job.size[1], job.size[2], job.stride[2]
    residues = job.stride[0] * job.stride[1] * job.stride[2]
    for pair in range(job.pairs):
        for channel in range(job.groups * job.some):
            bias = number(like, 0)
            if job.b != 0:
                bias = b[channel // job.some * job.channels + channel % job.some]
            for residue in range(residues):
                for half in range(2):
                    p, p0, p1, p_row, p_line, lo, hi = _box(job, 2 * (job.first + pair) + half, channel, residue)
                    for i in range(p0[0], p0[1]):
                        for j in range(p1[0], p1[1]):
                            _separate(
                                at(windows, 2 * (i * line + j) * row + half),
                                lo,
                                hi,
                                at(a, p + i * p_row + j * p_line),
                                stride,
                                bias,
                            )
                windows = at(windows, 2 * job.size[0] * line * row)


@njit_inner
def _box(job: Any, window: int, channel: int, residue: int) -> Any:
    """Return where sample 0 of a window stands in `a`, the ranges of samples within it, and the steps between rows and lines.

    Ranges are of the first axis, the second, and as two numbers the third; the first is empty where there is no such window.
    """
    n, block = window // job.per_image, window % job.per_image
    r1, r2 = residue // job.stride[2] % job.stride[1], residue % job.stride[2]
    r0 = residue // (job.stride[2] * job.stride[1])
    b1, b2 = block // job.blocks[2] % job.blocks[1], block % job.blocks[2]
    b0 = block // (job.blocks[2] * job.blocks[1])
    x0 = job.stride[0] * (b0 * job.step[0] + job.start[0]) + r0
    x1 = job.stride[1] * (b1 * job.step[1] + job.start[1]) + r1
    x2 = job.stride[2] * (b2 * job.step[2] + job.start[2]) + r2
    of_0 = _within(x0, job.stride[0], job.extent[0], job.length[0] if b0 < job.blocks[0] and n < job.batch else 0)
    of_1 = _within(x1, job.stride[1], job.extent[1], job.length[1])
    lo, hi = _within(x2, job.stride[2], job.extent[2], job.length[2])
    first = n * job.a_step[0] + channel // job.some * job.a_step[1] + channel % job.some * job.a_step[2]
    first += (x0 * job.extent[1] + x1) * job.extent[2] + x2
    return first, of_0, of_1, job.stride[0] * job.extent[1] * job.extent[2], job.stride[1] * job.extent[2], lo, hi


@njit_inner
def _within(position: int, stride: int, extent: int, length: int) -> Any:
    """Return the range of t < length with 0 <= position + stride * t < extent."""
    lo = min(max(-(position // stride), 0), length)
    return lo, max(min(-((position - extent) // stride), length), lo)


@njit_inner
def _interleave(p: Any, p_lo: int, p_hi: int, q: Any, q_lo: int, q_hi: int, stride: int, to: Any, n: int) -> None:
    lo = max(p_lo, q_lo)
    hi = max(min(p_hi, q_hi), lo)
    if lo == hi:
        lo = hi = n
        if p_lo == p_hi and q_lo == q_hi:
            zero(to, 2 * n)
            return
    for t in range(lo):
        to[2 * t] = p[stride * t] if p_lo <= t < p_hi else 0
        to[2 * t + 1] = q[stride * t] if q_lo <= t < q_hi else 0
    if stride == 1:
        for t in range(lo, hi):
            to[2 * t] = p[t]
            to[2 * t + 1] = q[t]
    else:
        for t in range(lo, hi):
            to[2 * t] = p[stride * t]
            to[2 * t + 1] = q[stride * t]
    for t in range(hi, n):
        to[2 * t] = p[stride * t] if p_lo <= t < p_hi else 0
        to[2 * t + 1] = q[stride * t] if q_lo <= t < q_hi else 0


@njit_inner
def _separate(row: Any, lo: int, hi: int, to: Any, stride: int, bias: Any) -> None:
    if stride == 1:
        for t in range(lo, hi):
            to[t] = row[2 * t] + bias
    else:
        for t in range(lo, hi):
            to[stride * t] = row[2 * t] + bias


def multiply(letters: str, a: Array, b: Array, sums: Array, adds: bool) -> None:
    """Write einsum(letters, a, b) to sums, or add it: three letters are free, one is summed over, `f`, frequencies, is last."""
    of_a, of_b, of_sums = letters.replace("->", ",").split(",")
    order = of_sums[:3] + (set(of_a + of_b) - set(of_sums)).pop()
    count = dict(zip(of_a + of_b, a.shape + b.shape, strict=True))

    def step(of: str, array: Array) -> list[int]:
        strides = dict(zip(of, array.strides, strict=True))
        return [strides.get(letter, 0) // array.itemsize for letter in order]

    steps = {"a_step": step(of_a, a), "b_step": step(of_b, b), "sums_step": step(of_sums, sums)}
    # All that meets in a chunk should stay in cache, and be long enough for vectors.
    met = prod(a.shape[:-1]) + prod(b.shape[:-1]) + prod(sums.shape[:-1])
    chunk = max(CHUNK_BYTES // (met * a.itemsize), 64)
    counts = [count[letter] for letter in order]
    job = _PRODUCTS.fill(frequencies=count["f"], chunk=chunk, count=counts, adds=adds, **steps)
    _multiply(1, a.real.dtype, job, a=a, b=b, sums=sums)


_PRODUCTS = Job("a b sums", frequencies=1, chunk=1, adds=1, count=4, a_step=4, b_step=4, sums_step=4)


@kernel(_PRODUCTS)
def _multiply(worker: int, workers: int, job: Any, like: Any) -> None:
    """sums[i,j,k] = or += sum over l of a[i,j,k,l] * b[i,j,k,l], frequency by frequency, chunks of them at a time."""
    a, b, sums = pointer(job.a, like), pointer(job.b, like), pointer(job.sums, like)
    frequencies, chunk, a_l, b_l = job.frequencies, job.chunk, job.a_step[3], job.b_step[3]
    for first in range(worker * chunk, frequencies, workers * chunk):
        n = min(chunk, frequencies - first)
        for i in range(job.count[0]):
            for j in range(job.count[1]):
                for k in range(job.count[2]):
                    of_a = at(a, 2 * (i * job.a_step[0] + j * job.a_step[1] + k * job.a_step[2] + first))
                    of_b = at(b, 2 * (i * job.b_step[0] + j * job.b_step[1] + k * job.b_step[2] + first))
                    to = at(sums, 2 * (i * job.sums_step[0] + j * job.sums_step[1] + k * job.sums_step[2] + first))
                    for m in range(job.count[3]):
                        if m == 0 and job.adds == 0:
                            _product(at(of_a, 2 * m * a_l), at(of_b, 2 * m * b_l), to, n)
                        else:
                            _add_product(at(of_a, 2 * m * a_l), at(of_b, 2 * m * b_l), to, n)


@njit_inner
def _product(a: Any, b: Any, to: Any, n: int) -> None:
    for f in range(0, 2 * n, 2):
        to[f] = a[f] * b[f] - a[f + 1] * b[f + 1]
        to[f + 1] = a[f] * b[f + 1] + a[f + 1] * b[f]


@njit_inner
def _add_product(a: Any, b: Any, sums: Any, n: int) -> None:
    for f in range(0, 2 * n, 2):
        sums[f] += a[f] * b[f] - a[f + 1] * b[f + 1]
        sums[f + 1] += a[f] * b[f + 1] + a[f + 1] * b[f]
