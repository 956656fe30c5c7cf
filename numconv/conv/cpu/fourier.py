"""The three contractions through Fourier transforms, for many taps: overlap-save windows, SciPy's transforms, bounded memory.

Along each axis let dilation*k - pad_lo = stride*m + r with 0 <= r < stride. Then x_r[t] = x[stride*t + r] and v_r[m] = w[k] turn
the contractions into ones of stride 1 and dilation 1, over as many times more channels as there are residues r:

    y[p] = sum over r, m of v_r[m] * x_r[p + m]        x_r[t] = sum over m of v_r[m] * y[t - m]
    v_r[m] = sum over p of y[p] * x_r[p + m]

Each is a product of spectra, over windows of the source whose first `size - taps + 1` outputs are whole. Two windows make one
complex window, real parts and imaginary parts: v is real, so products of its spectrum keep them apart, and where two such pairs
are multiplied, the real parts of the products hold the sum of both. Complex transforms, unlike real ones, run in place: a task
stays in cache, and takes no fresh memory.

Errors are relative to the largest values in reach, not to the output they fall on: below eps * log2(size of a window) * norm(x) *
norm(w), norms of whole arrays (a test holds it to that; measured against float64: 0.001 to 0.3 of it). They do not cross from one
image to another. A NaN or an infinity spoils all outputs of its pair of windows, where the definition spoils only those it
reaches: ask `finite` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from math import inf, prod
from typing import Any, get_args

import numpy as np

from ..._array import flat
from ..._jit import Job, kernel, njit_inner, workers
from ..._memory import empty
from ..._simd import int64_pointer, pointer
from ..geometry import ConvGeometry
from .fourier_plan import PARTS, Contraction, Plan, cost, pairs_of, plan, taps_of, workspace
from .fourier_windows import Place, multiply

__all__ = ["contract_w", "contract_x", "contract_y", "cost", "finite", "fits", "plan", "workspace"]

Array = np.ndarray[Any, Any]


def fits(g: ConvGeometry) -> bool:
    """Say whether all three contractions of `g` can run within the memory that a pass may hold."""
    return all(cost(g, 8, name) < inf for name in get_args(Contraction))


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
    p, low, (of_x, of_w, of_y) = plan(g, x.itemsize, "contract_y"), taps_of(g)[1], _shapes(g)
    x, w, y = flat(x).reshape(of_x), flat(w).reshape(of_w), empty(of_y, x.dtype)
    blocks = 2 * pairs_of(1, prod(p.blocks), "contract_y")
    src, dst = Place(of_x, g.stride, low, p.size, blocks, p), Place(of_y, _ONES, _ZEROS, p.step, blocks, p)
    for h, o in _passes(g.groups, g.c_out, p):
        v_hat = _spectra(w[h, o], g, p)
        _filter("hosf,mhsf->mhof", src, x[:, h], v_hat, dst, y[:, h, o], _bias(b, g, h, o), p)
    return _rectified(y.reshape(g.y_shape), rectify)


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
    p, (taps, low), (of_x, of_w, of_y) = plan(g, y.itemsize, "contract_x"), taps_of(g), _shapes(g)
    y, w, x = flat(y).reshape(of_y), flat(w).reshape(of_w), empty(of_x, y.dtype)
    start: Any = tuple(1 - n - lo for n, lo in zip(taps, low, strict=True))  # v is read backwards
    blocks = 2 * pairs_of(1, prod(p.blocks), "contract_x")
    src, dst = Place(of_y, _ONES, start, p.size, blocks, p), Place(of_x, g.stride, _ZEROS, p.step, blocks, p)
    for h, i in _passes(g.groups, g.c_in, p):
        v_hat = _spectra(w[h, :, i], g, p, backwards=True)
        _filter("hosf,mhof->mhsf", src, y[:, h], v_hat, dst, x[:, h, i], _bias(b, g, h, i), p)
    return _rectified(x.reshape(g.x_shape), rectify)


def contract_w(x: Array, y: Array, g: ConvGeometry) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
    p, (taps, low), (of_x, of_w, of_y) = plan(g, x.itemsize, "contract_w"), taps_of(g), _shapes(g)
    x, y, w = flat(x).reshape(of_x), flat(y).reshape(of_y), empty(of_w, x.dtype)
    blocks = prod(p.blocks)
    of_images, of_outputs = Place(of_x, g.stride, low, p.size, blocks, p), Place(of_y, _ONES, _ZEROS, p.step, blocks, p)
    for h, o in _passes(g.groups, g.c_out, p):
        sums = _summed(of_images, x[:, h], of_outputs, y[:, h, o], pairs_of(g.batch, blocks, "contract_w"), p)
        v = sums.reshape(*sums.shape[:2], g.c_in, *g.stride, *p.size)
        _backward(v, taps)
        w[h, o] = v[_places(g)].real / prod(p.size)
    return w.reshape(g.w_shape)


def finite(a: Array) -> bool:
    """Say whether all numbers of an array are finite, in one pass over memory."""
    a = flat(a)
    n = workers(a.size // 4096, a.size)
    bad = np.zeros(n, np.int64)
    _count_bad(n, a.dtype, _COUNT.fill(size=a.size), a=a, bad=bad)
    return not bad.any()


def _rectified(a: Array, rectify: bool) -> Array:
    return np.maximum(a, 0, out=a) if rectify else a


def _filter(letters: str, src: Place, a: Array, v_hat: Array, dst: Place, to: Array, b: Array | None, p: Plan) -> None:
    """Write one pass of channels: windows of `a` times the spectra v_hat."""
    count = pairs_of(len(a), prod(p.blocks), "contract_y")
    of_a = (a.shape[1], a.shape[2] * src.residues, prod(p.size))
    of_z = (a.shape[1], to.shape[2] * dst.residues, prod(p.size))
    # One channel to one: spectra are multiplied where they are, by NumPy, 0.3 ns a number in float32 beside 0.5 by the kernel.
    alone = of_a[1] == of_z[1] == 1

    def task(first: int, memory: Array) -> None:
        n = min(p.pairs, count - first)
        x_hat = memory[: n * prod(of_a)].reshape(n, *of_a)
        z_hat = x_hat if alone else memory[x_hat.size : x_hat.size + n * prod(of_z)].reshape(n, *of_z)
        src.take(a, first, x_hat)
        _forward(x_hat.reshape(*x_hat.shape[:3], *p.size), p.size)
        if alone:
            np.multiply(x_hat, v_hat[:, 0], out=x_hat)
        else:
            multiply(letters, v_hat, x_hat, z_hat, adds=False)
        _backward(z_hat.reshape(*z_hat.shape[:3], *p.size), p.step)
        dst.put(to, first, z_hat, b)

    memory = p.pairs * (prod(of_a) + (not alone) * prod(of_z))
    _each(task, range(0, count, p.pairs), memory, v_hat.dtype, to.size)


def _summed(of_images: Place, x: Array, of_outputs: Place, y: Array, count: int, p: Plan) -> Array:
    """Return the spectra of w for one pass of channels: sums over parts of the windows, then over the parts in their order."""
    of_x = (x.shape[1], x.shape[2] * of_images.residues, prod(p.size))
    of_y = (x.shape[1], y.shape[2], prod(p.size))
    sums = np.zeros((PARTS, x.shape[1], y.shape[2], *of_x[1:]), np.result_type(x.dtype, np.complex64))

    def task(i: int, memory: Array) -> None:
        stop = (i + 1) * count // PARTS
        for first in range(i * count // PARTS, stop, p.pairs):
            n = min(p.pairs, stop - first)
            x_hat = memory[: n * prod(of_x)].reshape(n, *of_x)
            y_hat = memory[x_hat.size : x_hat.size + n * prod(of_y)].reshape(n, *of_y)
            of_images.take(x, first, x_hat)
            of_outputs.take(y, first, y_hat)
            _forward(x_hat.reshape(*x_hat.shape[:3], *p.size), p.size)
            _forward(y_hat.reshape(*y_hat.shape[:3], *p.size), p.step)
            np.conjugate(y_hat, out=y_hat)
            multiply("mhof,mhsf->hosf", y_hat, x_hat, sums[i], adds=True)

    _each(task, range(PARTS), p.pairs * (prod(of_x) + prod(of_y)), sums.dtype, x.size)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in sums[1:]:
            sums[0] += part
    return sums[0]  # type: ignore[no-any-return]


def _each(task: Callable[[int, Array], None], items: range, size: int, dtype: Any, outputs: int) -> None:
    """Run the tasks on threads of Python's, each with memory for `size` numbers: SciPy and kernels let others run meanwhile.

    Whole tasks, because SciPy's own threads divide one transform into vectors and a rest by their number, and only where vectors
    and the rest round alike are bits the same for any number of them.
    """
    left = iter(items)

    def work() -> None:
        memory = np.empty(size, dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # as in kernels: what overflows is infinite, without a warning
            for item in left:
                task(item, memory)

    others = workers(len(items), 32 * outputs) - 1
    if others <= 0:
        work()
        return
    done = [_threads(others).submit(work) for _ in range(others)]
    work()
    for future in done:
        if not future.cancel():  # on a busy machine one may not have begun, and nothing is left for it
            future.result()


@cache
def _threads(n: int) -> ThreadPoolExecutor:
    """Threads kept for the next call, as starting one takes 270 us. A forked child has none of them, and asks for none."""
    return ThreadPoolExecutor(n, "numconv")


def _bias(b: Array | None, g: ConvGeometry, h: slice, c: slice) -> Array | None:
    return None if b is None else flat(b).reshape(g.groups, -1)[h, c]


def _passes(groups: int, channels: int, p: Plan) -> Iterator[tuple[slice, slice]]:
    for h in range(0, groups, p.groups):
        for c in range(0, channels, p.rows):
            yield slice(h, min(h + p.groups, groups)), slice(c, min(c + p.rows, channels))


def _spectra(w: Array, g: ConvGeometry, p: Plan, backwards: bool = False) -> Array:
    """Return the conjugate spectra of v, divided by the number of samples of a window."""
    from scipy.fft import ifft

    v = np.zeros((*w.shape[:3], *g.stride, *p.size), np.result_type(w.dtype, np.complex64))
    v[_places(g, backwards)] = w
    _forward(v, taps_of(g)[0], ifft)
    return v.reshape(*w.shape[:2], w.shape[2] * prod(g.stride), -1)


@lru_cache(64)
def _places(g: ConvGeometry, backwards: bool = False) -> Any:
    """Where the taps of w stand in an array whose last six axes are residues r and taps m of v."""
    taps, low = taps_of(g)
    reach = [d * np.arange(k) - pad for d, k, pad in zip(g.dilation, g.w_size, g.pad_lo, strict=True)]
    m = [a // s - lo for a, s, lo in zip(reach, g.stride, low, strict=True)]
    if backwards:
        m = [n - 1 - a for a, n in zip(m, taps, strict=True)]
    return (..., *np.ix_(*(a % s for a, s in zip(reach, g.stride, strict=True))), *np.ix_(*m))


def _forward(a: Array, filled: Sequence[int], transform: Any = None) -> None:
    """Turn the samples on the last three axes into spectra, in place; all are zero past those `filled`."""
    from scipy.fft import fft

    for axis in (2, 1, 0):  # lines of nothing but zeros are left as they are
        _in_place(transform or fft, a[_lines(filled, axis)], axis - 3, "backward")


def _backward(a: Array, wanted: Sequence[int]) -> None:
    """Turn spectra on the last three axes into as many samples as are `wanted`, in place, times the number of samples."""
    from scipy.fft import ifft

    for axis in (0, 1, 2):
        _in_place(ifft, a[_lines(wanted, axis)], axis - 3, "forward")


def _lines(count: Sequence[int], axis: int) -> Any:
    """Lines along `axis` that begin within `count` on the axes before it."""
    return (..., *(slice(n) for n in count[:axis]), *[slice(None)] * (3 - axis))


def _in_place(transform: Any, a: Array, axis: int, norm: str) -> None:
    if a.shape[axis] == 1:
        return
    done = transform(a, axis=axis, norm=norm, overwrite_x=True, workers=1)
    if not np.may_share_memory(done, a):  # SciPy promises no more than that it may
        a[...] = done


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
