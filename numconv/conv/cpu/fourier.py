"""The three contractions through Fourier transforms, for many taps: overlap-save windows, SciPy's transforms, bounded memory.

Along each axis let dilation*k - pad_lo = stride*m + r with 0 <= r < stride. Then x_r[t] = x[stride*t + r] and v_r[m] = w[k] turn
the contractions into ones of stride 1 and dilation 1, over as many times more channels as there are residues r:

    y[p] = sum over r, m of v_r[m] * x_r[p + m]        x_r[t] = sum over m of v_r[m] * y[t - m]
    v_r[m] = sum over p of y[p] * x_r[p + m]

Each is a product of spectra, over windows of the source whose first `size - taps + 1` outputs are whole.

Errors are relative to the largest values in reach, not to the output they fall on: below eps * log2(size of a window) * norm(x) *
norm(w), norms of whole arrays (a test holds it to that; measured against float64: 0.001 to 0.3 of it). A NaN or an infinity
spoils all outputs of its window, where the definition spoils only those it reaches: ask `finite` first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import product
from math import inf, prod
from typing import Any, Literal, NamedTuple

import numba
import numpy as np

from ..._array import flat
from ..._jit import Job, kernel, njit_inner, workers
from ..._simd import at, int64_pointer, pointer
from ..geometry import ConvGeometry, Triple

Array = np.ndarray[Any, Any]
Contraction = Literal["contract_y", "contract_x", "contract_w"]

HELD_BYTES = 32 << 20  # of spectra kept while the windows pass by
TASK_BYTES = 1 << 20  # of samples and results of one task, if one window is not more: its transforms stay in cache
CHUNK_BYTES = 1 << 18  # of spectra multiplied at a time
PARTS = 8  # partial sums of contract_w: fixed, so that bits do not depend on the number of threads


class Plan(NamedTuple):
    """How a contraction is cut: axes into windows, channels into passes whose spectra are held, windows into tasks."""

    size: Triple  # samples of a window
    step: Triple  # outputs it gives
    blocks: Triple  # windows along each axis
    groups: int  # groups in a pass
    rows: int  # channels of y in a pass, of x in contract_x: all of them unless groups is 1
    windows: int  # windows in a task
    seconds: float  # estimated for one core; infinite where memory does not suffice


def fits(g: ConvGeometry) -> bool:
    """Say whether all three contractions of `g` can run within the memory that a pass may hold."""
    return all(plan(g, 8, name).seconds < inf for name in ("contract_y", "contract_x", "contract_w"))


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
    p, low, (of_x, of_w, of_y) = plan(g, x.itemsize, "contract_y"), _taps(g)[1], _shapes(g)
    x, w, y = flat(x).reshape(of_x), flat(w).reshape(of_w), np.empty(of_y, x.dtype)
    for h, o in _passes(g.groups, g.c_out, p):
        v_hat = _forward(_spread(w[h, o], g, p), p)
        _filter("hosf,mhsf->mhof", x[:, h], g.stride, low, v_hat, y[:, h, o], _ONES, _bias(b, g, h, o), p)
    return y.reshape(g.y_shape)


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None) -> Array:
    """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
    p, (taps, low), (of_x, of_w, of_y) = plan(g, y.itemsize, "contract_x"), _taps(g), _shapes(g)
    y, w, x = flat(y).reshape(of_y), flat(w).reshape(of_w), np.empty(of_x, y.dtype)
    start: Any = tuple(1 - n - lo for n, lo in zip(taps, low, strict=True))  # v is read backwards
    for h, i in _passes(g.groups, g.c_in, p):
        v_hat = _forward(_spread(w[h, :, i], g, p, backwards=True), p)
        _filter("hosf,mhof->mhsf", y[:, h], _ONES, start, v_hat, x[:, h, i], g.stride, _bias(b, g, h, i), p)
    return x.reshape(g.x_shape)


def contract_w(x: Array, y: Array, g: ConvGeometry) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
    p, (of_x, of_w, of_y) = plan(g, x.itemsize, "contract_w"), _shapes(g)
    x, y, w = flat(x).reshape(of_x), flat(y).reshape(of_y), np.empty(of_w, x.dtype)
    for h, o in _passes(g.groups, g.c_out, p):
        w[h, o] = _backward(_summed(x[:, h], y[:, h, o], g, p), (g.c_in, *g.stride), p)[_places(g)]
    return w.reshape(g.w_shape)


def workspace(g: ConvGeometry, itemsize: int, contraction: Contraction) -> int:
    """Return how many bytes of scratch memory a contraction takes at most, with Numba's present number of threads."""
    p, roles = plan(g, itemsize, contraction), _roles(g, contraction)
    spectrum = 2 * itemsize * prod(p.size[:2]) * (p.size[2] // 2 + 1)
    held = p.groups * p.rows * roles.per_row * roles.read * spectrum
    task = p.windows * p.groups * (roles.read + p.rows * roles.per_row) * spectrum
    # Samples and spectrum exist at once, and a transform makes a copy: two more of each sum, three of what a task transforms.
    size: int = held * (2 + roles.parts) + numba.get_num_threads() * 3 * task
    return size


def cost(g: ConvGeometry, itemsize: int, contraction: Contraction) -> float:
    """Estimate the time of a contraction, in multiply-adds: those the direct method does meanwhile on the same number of cores.

    It is taken to do 50 of them a nanosecond and core in float32, 25 in float64, three quarters of the peak of AVX2.
    """
    seconds: float = plan(g, itemsize, contraction).seconds
    return seconds * 2e11 / itemsize


def finite(a: Array) -> bool:
    """Say whether all numbers of an array are finite, in one pass over memory."""
    a = flat(a)
    n = workers(a.size // 4096, a.size)
    bad = np.zeros(n, np.int64)
    _count_bad(n, a.dtype, _COUNT.fill(size=a.size), a=a, bad=bad)
    return not bad.any()


@lru_cache(1024)
def plan(g: ConvGeometry, itemsize: int, contraction: Contraction) -> Plan:
    """Choose the windows that take the least time, of those whose memory suffices."""
    roles, (taps, _) = _roles(g, contraction), _taps(g)
    # Every size of every axis is weighed against all of the others: 0.6 ms in all.
    sizes = [_sizes(n, k) for n, k in zip(roles.outputs, taps, strict=True)]
    size = np.meshgrid(*sizes, indexing="ij", sparse=True)
    step = [n - k + 1 for n, k in zip(size, taps, strict=True)]
    blocks = [-(-n // s) for n, s in zip(roles.outputs, step, strict=True)]
    samples, count = size[0] * size[1] * size[2], g.batch * blocks[0] * blocks[1] * blocks[2]
    # The pass: as many rows as may be held, but none that would push a task out of cache, then groups of all rows likewise.
    room = np.maximum(TASK_BYTES // (samples * itemsize), 1)
    row_bytes = (2 * itemsize * roles.parts * roles.read * roles.per_row) * (samples + size[0] * size[1])
    rows = np.minimum(HELD_BYTES // row_bytes, np.clip(room // roles.per_row, 4 * roles.read, roles.rows))
    channels = roles.read + rows * roles.per_row
    groups = np.clip(np.minimum(room // channels, HELD_BYTES // (row_bytes * np.maximum(rows, 1))), 1, g.groups)
    groups = np.where(rows == roles.rows, groups, 1)
    # SciPy's transforms along one axis are vectorised over windows only: eight of them, where that takes no more than 8 MiB.
    many = np.clip((8 << 20) // (samples * itemsize * groups * channels), 1, 8) if g.rank == 1 else 1
    windows = np.clip(np.maximum(room // (groups * channels), many), 1, np.maximum(count, 1))
    seconds = _seconds(g, itemsize, roles, samples, count, rows, groups, windows)
    best = np.unravel_index(np.argmin(seconds), seconds.shape)

    def chosen(a: Any) -> int:
        return int(np.broadcast_to(np.asarray(a), seconds.shape)[best])

    axes: Any = [tuple(map(chosen, a)) for a in (size, step, blocks)]
    return Plan(axes[0], axes[1], axes[2], chosen(groups), chosen(rows), chosen(windows), float(seconds[best]))


class _Roles(NamedTuple):
    """Who is who in a contraction: channels count for one group, with residues."""

    outputs: Triple  # positions that windows must cover
    read: int  # channels transformed in every pass
    rows: int  # channels that are divided among passes
    per_row: int  # transforms per window of each of them
    parts: int  # sums kept of every product of a row and a channel that is read


def _roles(g: ConvGeometry, contraction: Contraction) -> _Roles:
    residues = prod(g.stride)
    if contraction == "contract_x":
        outputs: Any = tuple(-(-n // s) for n, s in zip(g.x_size, g.stride, strict=True))
        return _Roles(outputs, g.c_out, g.c_in, residues, 1)
    return _Roles(g.y_size, g.c_in * residues, g.c_out, 1, PARTS if contraction == "contract_w" else 1)


def _sizes(outputs: int, taps: int) -> Array:
    """Return sizes of windows worth a try along an axis: fast for transforms, and dividing the outputs evenly."""
    counts = sorted({1, 2, 3, *(n << k for n in (4, 5, 6, 7) for k in range(outputs.bit_length()))})
    steps = [-(-max(outputs, 1) // n) for n in counts]
    return np.array(sorted({_fast(s + taps - 1) for s in steps if 4 * s >= taps or s == steps[0]}), np.int64)


def _fast(n: int) -> int:
    """Return the least product of 2, 3 and 5 that is at least n."""
    return _products_of_2_3_5()[bisect_left(_products_of_2_3_5(), n)]


@cache
def _products_of_2_3_5() -> list[int]:
    most = 2**40
    return sorted(2**i * n for n in (3**j * 5**k for j in range(26) for k in range(18)) for i in range((most // n).bit_length()))


def _seconds(
    g: ConvGeometry, itemsize: int, roles: _Roles, samples: Any, count: Any, rows: Any, groups: Any, windows: Any
) -> Array:
    """Estimate the time on one core, from rates measured on a Zen 3 core with SciPy 1.17; infinite where no row can be held."""
    passes = -(-roles.rows // np.maximum(rows, 1))
    transforms = g.groups * count * (roles.read * passes + roles.rows * roles.per_row)
    products = g.groups * count * roles.read * roles.rows * roles.per_row
    made = g.groups * roles.read * roles.rows * roles.per_row * roles.parts
    of_point = itemsize * 0.042e-9 * np.log2(samples + 1) * np.where(samples * itemsize > 1 << 19, 1.4, 1.0)
    if g.rank == 1:
        of_point = of_point * np.where(windows * groups * np.minimum(roles.read, rows * roles.per_row) < 4, 2.0, 1.0)
    copies, of_product = itemsize * 0.15e-9, itemsize * 0.13e-9
    tasks = np.maximum(-(-count // windows) * -(-g.groups // groups) * passes, 1)
    calls = 15e-6 * count * -(-g.groups // groups) * passes * prod(g.stride) + 100e-6 * tasks
    seconds = (transforms + made) * samples * (of_point + copies) + products * samples * of_product + calls
    # The last tasks leave cores idle: few large ones are worse than many.
    return np.where(rows > 0, seconds * (1 + 1 / tasks), inf)


def _filter(
    letters: str, src: Array, stride: Triple, start: Triple, v_hat: Array, dst: Array, step: Triple, b: Array | None, p: Plan
) -> None:
    """Write dst, one pass of channels: windows of src times the spectra v_hat."""
    count = len(src) * prod(p.blocks)

    def task(first: int) -> None:
        some = _windows(first, min(first + p.windows, count), p)
        x_hat = _forward(_gathered(src, some, stride, start, p.size, p), p)
        z_hat = np.zeros((len(some), dst.shape[1], dst.shape[2] * prod(step), x_hat.shape[-1]), x_hat.dtype)
        _products(letters, v_hat, x_hat, z_hat)
        z = _backward(z_hat, (dst.shape[2], *step), p)
        for z_n, (n, position) in zip(z, some, strict=True):
            for r in product(*map(range, step)):
                to = _residue(dst[n], r, step)[_box(position, p.step)]
                whole = z_n[:, :, *r][_box(_ZEROS, to.shape[2:])]
                np.copyto(to, whole) if b is None else np.add(whole, b, out=to)

    _each(task, range(0, count, p.windows), dst.size)


def _summed(x: Array, y: Array, g: ConvGeometry, p: Plan) -> Array:
    """Return the spectra of w for one pass of channels: sums over parts of the windows, then over the parts in their order."""
    count, low = g.batch * prod(p.blocks), _taps(g)[1]
    shape = (PARTS, x.shape[1], y.shape[2], g.c_in * prod(g.stride), prod(p.size[:2]) * (p.size[2] // 2 + 1))
    sums = np.zeros(shape, np.result_type(x.dtype, np.complex64))

    def task(i: int) -> None:
        stop = (i + 1) * count // PARTS
        for first in range(i * count // PARTS, stop, p.windows):
            some = _windows(first, min(first + p.windows, stop), p)
            x_hat = _forward(_gathered(x, some, g.stride, low, p.size, p), p)
            y_hat = _forward(_gathered(y, some, _ONES, _ZEROS, p.step, p), p)
            _products("mhof,mhsf->hosf", y_hat, x_hat, sums[i])

    _each(task, range(PARTS), x.size)
    for part in sums[1:]:
        sums[0] += part
    return sums[0]  # type: ignore[no-any-return]


def _each(task: Callable[[int], None], items: range, size: int) -> None:
    """Run the tasks on threads of Python's: SciPy, NumPy and kernels let others run meanwhile.

    Whole tasks, because SciPy's own threads divide one transform into vectors and a rest by their number, and only where vectors
    and the rest round alike are bits the same for any number of them.
    """
    n = workers(len(items), 32 * size)
    if n == 1:
        for item in items:
            task(item)
        return
    with ThreadPoolExecutor(n) as pool:
        for _ in pool.map(task, items):
            pass


def _bias(b: Array | None, g: ConvGeometry, h: slice, c: slice) -> Array | None:
    return None if b is None else flat(b).reshape(g.groups, -1, 1, 1, 1)[h, c]


def _passes(groups: int, channels: int, p: Plan) -> Iterator[tuple[slice, slice]]:
    for h in range(0, groups, p.groups):
        for c in range(0, channels, p.rows):
            yield slice(h, min(h + p.groups, groups)), slice(c, min(c + p.rows, channels))


def _windows(first: int, stop: int, p: Plan) -> list[tuple[int, Triple]]:
    """Return the image and the first output of some of the windows, which are numbered image by image."""
    found = []
    for j in range(first, stop):
        n, block = divmod(j, prod(p.blocks))
        i, k, m = block // (p.blocks[1] * p.blocks[2]), block // p.blocks[2] % p.blocks[1], block % p.blocks[2]
        found.append((n, (i * p.step[0], k * p.step[1], m * p.step[2])))
    return found


def _gathered(src: Array, windows: list[tuple[int, Triple]], stride: Triple, start: Triple, length: Triple, p: Plan) -> Array:
    """Copy `length` samples of each residue from `start` past each window's position, zero outside of src and past `length`."""
    samples = np.zeros((len(windows), *src.shape[1:3], *stride, *p.size), src.dtype)
    for of_window, (n, position) in zip(samples, windows, strict=True):
        first = [a + b for a, b in zip(position, start, strict=True)]
        for r in product(*map(range, stride)):
            x_r = _residue(src[n], r, stride)
            lo = [max(a, 0) for a in first]
            inside = [max(min(a + c, m) - b, 0) for a, c, m, b in zip(first, length, x_r.shape[2:], lo, strict=True)]
            to = [b - a for a, b in zip(first, lo, strict=True)]
            of_window[:, :, *r][_box(to, inside)] = x_r[_box(lo, inside)]
    return samples


def _residue(a: Array, r: Sequence[int], stride: Triple) -> Array:
    every: Any = (..., *(slice(i, None, s) for i, s in zip(r, stride, strict=True)))
    return a[every]  # type: ignore[no-any-return]


def _box(start: Sequence[int], length: Sequence[int]) -> Any:
    return (..., *(slice(a, a + n) for a, n in zip(start, length, strict=True)))


def _taps(g: ConvGeometry) -> tuple[Triple, Triple]:
    """Taps of v along each axis, and the m of the first."""
    low = [-pad // s for pad, s in zip(g.pad_lo, g.stride, strict=True)]
    high = [(d * (k - 1) - pad) // s for d, k, pad, s in zip(g.dilation, g.w_size, g.pad_lo, g.stride, strict=True)]
    return tuple(b - a + 1 for a, b in zip(low, high, strict=True)), tuple(low)  # type: ignore[return-value]


def _places(g: ConvGeometry, backwards: bool = False) -> Any:
    """Where the taps of w stand in an array whose last six axes are residues r and taps m of v."""
    taps, low = _taps(g)
    reach = [d * np.arange(k) - pad for d, k, pad in zip(g.dilation, g.w_size, g.pad_lo, strict=True)]
    m = [a // s - lo for a, s, lo in zip(reach, g.stride, low, strict=True)]
    if backwards:
        m = [n - 1 - a for a, n in zip(m, taps, strict=True)]
    return (..., *np.ix_(*(a % s for a, s in zip(reach, g.stride, strict=True))), *np.ix_(*m))


def _spread(w: Array, g: ConvGeometry, p: Plan, backwards: bool = False) -> Array:
    """Return v with zeros up to the size of a window."""
    v = np.zeros((*w.shape[:3], *g.stride, *p.size), w.dtype)
    v[_places(g, backwards)] = w
    return v


def _forward(a: Array, p: Plan) -> Array:
    """Turn samples (i, j, channels, *residues, *size) into spectra (i, j, channels and residues, frequencies)."""
    from scipy.fft import rfftn

    a_hat = rfftn(a, axes=_axes(p))
    return a_hat.reshape(*a.shape[:2], prod(a.shape[2:6]), -1)  # type: ignore[no-any-return]


def _backward(a_hat: Array, channels: Sequence[int], p: Plan) -> Array:
    """Turn spectra (i, j, channels and residues, frequencies) into (i, j, *channels, *size)."""
    from scipy.fft import irfftn

    axes = _axes(p)
    a_hat = a_hat.reshape(*a_hat.shape[:2], *channels, *p.size[:2], p.size[2] // 2 + 1)
    return irfftn(a_hat, s=[p.size[axis] for axis in axes], axes=axes)  # type: ignore[no-any-return]


def _axes(p: Plan) -> tuple[int, ...]:
    return (*(axis for axis in (-3, -2) if p.size[axis] > 1), -1)


def _products(letters: str, a: Array, b: Array, sums: Array) -> None:
    """Add einsum(letters, conj(a), b) to sums: three letters are free, one is summed over, and `f`, frequencies, comes last."""
    of_a, of_b, of_sums = letters.replace("->", ",").split(",")
    order = of_sums[:3] + (set(of_a + of_b) - set(of_sums)).pop()
    count = dict(zip(of_a + of_b, a.shape + b.shape, strict=True))

    def step(of: str, array: Array) -> list[int]:
        strides = dict(zip(of, array.strides, strict=True))
        return [strides.get(letter, 0) // array.itemsize for letter in order]

    steps = {"a_step": step(of_a, a), "b_step": step(of_b, b), "sums_step": step(of_sums, sums)}
    # All that meets in a chunk should stay in the second-level cache, and be long enough for vectors.
    chunk = max(CHUNK_BYTES * count["f"] // (a.nbytes + b.nbytes + sums.nbytes), 64)
    job = _PRODUCTS.fill(frequencies=count["f"], chunk=chunk, count=[count[letter] for letter in order], **steps)
    _multiply(1, a.real.dtype, job, a=a, b=b, sums=sums)


_PRODUCTS = Job("a b sums", frequencies=1, chunk=1, count=4, a_step=4, b_step=4, sums_step=4)


@kernel(_PRODUCTS)
def _multiply(worker: int, workers: int, job: Any, like: Any) -> None:
    """sums[i,j,k] += sum over l of conj(a[i,j,k,l]) * b[i,j,k,l], frequency by frequency, chunks of them at a time."""
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
                        _product(at(of_a, 2 * m * a_l), at(of_b, 2 * m * b_l), to, n)


@njit_inner
def _product(a: Any, b: Any, sums: Any, n: int) -> None:
    for f in range(0, 2 * n, 2):
        sums[f] += a[f] * b[f] + a[f + 1] * b[f + 1]
        sums[f + 1] += a[f] * b[f + 1] - a[f + 1] * b[f]


_COUNT = Job("a bad", size=1)


@kernel(_COUNT)
def _count_bad(worker: int, workers: int, job: Any, like: Any) -> None:
    """Count the numbers that are not finite: those whose difference from themselves is not 0."""
    int64_pointer(job.bad)[worker] = _bad(pointer(job.a, like), worker * job.size // workers, (worker + 1) * job.size // workers)


@njit_inner
def _bad(a: Any, start: int, stop: int) -> int:
    count = 0
    for i in range(start, stop):
        count += a[i] - a[i] != 0
    return count


def _shapes(g: ConvGeometry) -> tuple[tuple[int, ...], ...]:
    """Shapes of x, w and y with groups on an axis of their own, and three axes of positions."""
    c = g.groups, g.c_out, g.c_in
    return (g.batch, c[0], c[2], *g.x_size), (*c, *g.w_size), (g.batch, *c[:2], *g.y_size)


_ONES, _ZEROS = (1, 1, 1), (0, 0, 0)
