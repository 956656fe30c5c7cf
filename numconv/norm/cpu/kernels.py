"""The kernels of normalisation: a set's moments and its y in one go, its gradients in another, while it is in cache.

A set is `parts` blocks of `size` numbers, `step_part` apart, one channel each; or, if `along`, `parts` neighbouring numbers, a
channel each. Moments need no channels, only runs: a set's blocks, or all of it where they touch. `moments` holds mean, its
rest, var and r, one after the other, for each set. With d = x - mean, r = 1 / sqrt(var + eps), h = dy scale and means over a set:

    y  = d r scale + shift
    dx = r (h - mean(h) - d r^2 mean(h d))
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._jit import Job, kernel, njit_inner
from ..._simd import at, number, pointer, zero
from .sums import deviations, float64_pointer, products, scaled_products, sum_of

JOB = Job(
    "x y dy dx scale shift moments eps shift_sums scale_sums",
    rows=1, groups=1, parts=1, size=1, runs=1, run=1, step_row=1, step_group=1, step_part=1, channel_group=1, channel_part=1,
    fixed=1, along=1, chunks=1,
)  # fmt: skip
CHUNK = 1024  # numbers that partial sums of one dtype run over: 4 or 8 KiB, which stay in L1 for their second reading


@kernel(JOB)
def normal_y(worker: int, workers: int, job: Any, like: Any) -> None:
    """Take the moments of one worker's sets, unless they are `fixed`, and fill their y, if it has an address."""
    sets, eps = job.rows * job.groups, float64_pointer(job.eps)
    mean = float64_pointer(job.moments)
    left, var, r = at(mean, sets), at(mean, 2 * sets), at(mean, 3 * sets)
    for i in range(worker * sets // workers, (worker + 1) * sets // workers):
        first, channel = i // job.groups * job.step_row + i % job.groups * job.step_group, i % job.groups * job.channel_group
        if not job.fixed:
            mean[i], left[i], var[i] = moments(at(pointer(job.x, like), first), job.runs, job.run, job.step_part)
            r[i] = 1 / np.sqrt(var[i] + eps[0])
        if job.y:
            x, y = at(pointer(job.x, like), first), at(pointer(job.y, like), first)
            scale, shift = at(pointer(job.scale, like), channel), at(pointer(job.shift, like), channel)
            centre, rest, one = number(like, mean[i]), number(like, left[i]), number(like, r[i])
            if job.along:
                row_y(x, y, job.parts, centre, rest, one, scale, shift)
            else:
                step, channel_part, size = job.step_part, job.channel_part, job.size
                for k in range(job.parts):
                    c = k * channel_part
                    block_y(at(x, k * step), at(y, k * step), size, centre, rest, one * scale[c], shift[c])


@njit_inner
def moments(x: Any, runs: int, run: int, step: int) -> tuple[float, float, float]:
    """Return mean, what it has lost by rounding to a number of the dtype, and mean square deviation.

    Each chunk is summed around a rough mean of its own; chunks are put together in float64, by how far they are from the first.
    Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983, eq. 1.7 and 2.1.
    """
    count, first, mean, squares = 0, 0.0, 0.0, 0.0
    for j in range(runs):
        for begin in range(0, run, CHUNK):
            n, chunk = min(CHUNK, run - begin), at(x, j * step + begin)
            inverse = 1.0 / n
            centre = number(x, sum_of(chunk, n) * inverse)
            d, dd = deviations(chunk, n, centre)
            squares += dd - d * d * inverse
            if count == 0:
                first, mean = centre, d * inverse
            else:
                apart, weight = (centre - first) + d * inverse - mean, n / (count + n)
                squares += apart * apart * count * weight
                mean += apart * weight
            count += n
    rounded = np.float64(number(x, first + mean))
    return rounded, (first - rounded) + mean, squares / count


@njit_inner
def row_y(x: Any, y: Any, n: int, centre: Any, rest: Any, r: Any, scale: Any, shift: Any) -> None:
    """Fill y = d r scale + shift along a row of channels."""
    for i in range(n):
        y[i] = ((x[i] - centre) - rest) * r * scale[i] + shift[i]


@njit_inner
def block_y(x: Any, y: Any, n: int, centre: Any, rest: Any, factor: Any, shift: Any) -> None:
    """Fill y = d factor + shift in a block of one channel."""
    for i in range(n):
        y[i] = ((x[i] - centre) - rest) * factor + shift


@kernel(JOB)
def block_gradients(worker: int, workers: int, job: Any, like: Any) -> None:
    """Sum dy and dy d r over each block of one worker's sets, and fill the sets' dx, if it has an address."""
    mean, sets = float64_pointer(job.moments), job.rows * job.groups
    shift_sums, scale_sums = float64_pointer(job.shift_sums), float64_pointer(job.scale_sums)
    parts, size, step, channel_part = job.parts, job.size, job.step_part, job.channel_part
    for i in range(worker * sets // workers, (worker + 1) * sets // workers):
        first = i // job.groups * job.step_row + i % job.groups * job.step_group
        x, dy = at(pointer(job.x, like), first), at(pointer(job.dy, like), first)
        scale = at(pointer(job.scale, like), i % job.groups * job.channel_group)
        centre, rest, r = number(like, mean[i]), number(like, mean[sets + i]), mean[3 * sets + i]
        h, hd = 0.0, 0.0
        for k in range(parts):
            p, pd = block_sums(at(x, k * step), at(dy, k * step), size, centre, rest)
            shift_sums[i * parts + k], scale_sums[i * parts + k] = p, pd * r
            h += scale[k * channel_part] * p
            hd += scale[k * channel_part] * pd
        if job.dx:
            dx, n = at(pointer(job.dx, like), first), 0.0 if job.fixed else 1.0 / (parts * size)
            a, b = number(like, -r * h * n), number(like, -r * r * r * hd * n)
            for k in range(parts):
                factor = number(like, r * scale[k * channel_part])
                block_x(at(dx, k * step), at(x, k * step), at(dy, k * step), size, centre, rest, factor, a, b)


@njit_inner
def block_sums(x: Any, dy: Any, n: int, centre: Any, rest: Any) -> tuple[float, float]:
    """Sum dy and dy d over a block, chunk by chunk."""
    total, total_d = 0.0, 0.0
    for begin in range(0, n, CHUNK):
        p, pd = products(at(x, begin), min(CHUNK, n - begin), centre, rest, at(dy, begin))
        total += p
        total_d += pd
    return total, total_d


@njit_inner
def block_x(dx: Any, x: Any, dy: Any, n: int, centre: Any, rest: Any, factor: Any, a: Any, b: Any) -> None:
    """Fill dx = dy factor + a + d b."""
    for i in range(n):
        dx[i] = dy[i] * factor + (((x[i] - centre) - rest) * b + a)


@kernel(JOB)
def row_gradients(worker: int, workers: int, job: Any, like: Any) -> None:
    """Where channels lie along rows: fill dx, and sum dy and dy d r over the rows of each of one worker's chunks."""
    mean, sets = float64_pointer(job.moments), job.rows * job.groups
    rows, groups, parts, chunks = job.rows, job.groups, job.parts, job.chunks
    width = groups * parts
    for chunk in range(worker * chunks // workers, (worker + 1) * chunks // workers):
        shift_sums, scale_sums = (
            at(pointer(job.shift_sums, like), chunk * width),
            at(pointer(job.scale_sums, like), chunk * width),
        )
        zero(shift_sums, width)
        zero(scale_sums, width)
        for i in range(chunk * rows // chunks * groups, (chunk + 1) * rows // chunks * groups):
            x, dy, channel = at(pointer(job.x, like), i * parts), at(pointer(job.dy, like), i * parts), i % groups * parts
            centre, rest, r = number(like, mean[i]), number(like, mean[sets + i]), mean[3 * sets + i]
            add_row(x, dy, parts, centre, rest, number(like, r), at(shift_sums, channel), at(scale_sums, channel))
            if job.dx:
                scale = at(pointer(job.scale, like), channel)
                h, hd = row_sums(x, dy, scale, parts, centre, rest)
                a, b = number(like, -r * h / parts), number(like, -r * r * r * hd / parts)
                row_x(at(pointer(job.dx, like), i * parts), x, dy, scale, parts, centre, rest, number(like, r), a, b)


@njit_inner
def add_row(x: Any, dy: Any, n: int, centre: Any, rest: Any, r: Any, shift_sums: Any, scale_sums: Any) -> None:
    """Add dy and dy d r to the sums of each channel."""
    for i in range(n):
        shift_sums[i] += dy[i]
        scale_sums[i] += dy[i] * (((x[i] - centre) - rest) * r)


@njit_inner
def row_sums(x: Any, dy: Any, scale: Any, n: int, centre: Any, rest: Any) -> tuple[float, float]:
    """Sum h and h d along a row, chunk by chunk."""
    total, total_d = 0.0, 0.0
    for begin in range(0, n, CHUNK):
        p, pd = scaled_products(at(x, begin), min(CHUNK, n - begin), centre, rest, at(dy, begin), at(scale, begin))
        total += p
        total_d += pd
    return total, total_d


@njit_inner
def row_x(dx: Any, x: Any, dy: Any, scale: Any, n: int, centre: Any, rest: Any, r: Any, a: Any, b: Any) -> None:
    """Fill dx = h r + a + d b."""
    for i in range(n):
        dx[i] = dy[i] * scale[i] * r + (((x[i] - centre) - rest) * b + a)
