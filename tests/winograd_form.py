"""Winograd's trilinear form in NumPy, over the tiles of `winograd_tiles`: as it is, or with absolute values of everything."""

import numpy as np

from numconv.conv.cpu.winograd_basis import basis
from numconv.conv.cpu.winograd_tiles import KINDS, tiling


def form(g, name, m, x, w, y, *, absolute):
    """Compute a contraction tile by tile.

    With `absolute`, of absolute values of arrays, of matrices and of both factors of each matrix: the largest sums that the
    transforms and products can hold, for what they leave in between rounds too.
    """
    t = tiling(g, name == "contract_x", m)
    rows, columns = t.axes
    size = np.abs if absolute else np.asarray
    (b0, g0, a0), (b1, g1, a1) = (_matrices(axis.kind, size) for axis in t.axes)
    weights = t.taps(g.w_size[1] * g.w_size[2], g.w_size[2])  # [depth, part, tap of the window], -1 for none
    weights = weights.reshape(t.depth, rows.parts, columns.parts, rows.r, columns.r)
    shape = (g.groups, g.c_out, g.c_in, int(np.prod(g.w_size)))
    if name != "contract_w":
        u = np.einsum("fa,gb,hoidpqab->hoidpqfg", g0, g1, _zero_last(size(w).reshape(shape))[..., weights], optimize=True)
    src, channels = (y, g.c_out) if t.adjoint else (x, g.c_in)
    src = size(src).reshape(g.batch, g.groups, channels, *(g.y_size if t.adjoint else g.x_size))
    windows = _windows(src, t, 1 if t.adjoint else rows.parts, 1 if t.adjoint else columns.parts)
    v = np.einsum("fj,gl,nhczdrkjpstlq->nhczdrkpstqfg", b0, b1, windows, optimize=True)
    if name == "contract_w":
        places = [_places(axis, axis.m, 1, source=False)[..., 0] for axis in t.axes]
        seen = _zero_beyond(size(y).reshape(g.batch, g.groups, g.c_out, *g.y_size), places)
        d = np.einsum("fa,gb,nhozrkastb->nhozrkstfg", a0, a1, seen, optimize=True)
        u = np.einsum("nhizdrkpstqfg,nhozrkstfg->hoidpqfg", v, d, optimize=True)
        taps = np.einsum("fa,gb,hoidpqfg->hoidpqab", g0, g1, u, optimize=True)
        whole = np.zeros((*shape[:3], shape[3] + 1))
        whole[..., weights] = taps
        return whole[..., :-1].reshape(g.w_shape)
    if t.adjoint:
        sums = np.einsum("nhozdrkpstqfg,hoiduvfg->nhizrkstuvfg", v, u, optimize=True)
    else:
        sums = np.einsum("nhizdrkpstqfg,hoidpqfg->nhozrkstfg", v, u, optimize=True)[..., None, None, :, :]
    tiles = np.einsum("fa,gb,nhozrkstuvfg->nhozrkaustbv", a0, a1, sums, optimize=True)
    dst_size, dst_shape = (g.x_size, g.x_shape) if t.adjoint else (g.y_size, g.y_shape)
    to = [_places(axis, axis.m, axis.parts if t.adjoint else 1, source=False) for axis in t.axes]
    inside = [np.where((i >= 0) & (i < n), i, n) for i, n in zip(to, dst_size[1:], strict=True)]
    whole = np.zeros((*tiles.shape[:4], dst_size[1] + 1, dst_size[2] + 1))
    whole[..., inside[0][..., None, None, None, None], inside[1]] = tiles
    return whole[..., :-1, :-1].reshape(dst_shape)


def _matrices(kind, size):
    b = basis(*KINDS[kind])
    return [size(b.pairs) @ size(matrix) for matrix in (b.x, b.w, b.y)]


def _places(axis, samples, parts, *, source):
    """Return [residue, tile, sample, part]: where samples of windows lie in the source, or outputs of tiles in the result."""
    step, first = (axis.src_step, axis.src_first) if source else (axis.dst_step, axis.dst_first)
    residue, tile, sample, part = np.ogrid[: axis.residues, : axis.tiles, :samples, :parts]
    return step * (tile * axis.m + sample) + first + residue + part


def _windows(src, t, row_parts, column_parts):
    """Return [n, h, c, slice, tap along depth, (residue, tile, sample, part) of rows, and of columns], zero outside."""
    z, tap, r = np.arange(t.slices)[:, None], np.arange(t.depth), t.record
    q = r["slice_step"] * z + r["slice_tap"] * tap + r["slice_first"]
    depth, every = src.shape[3], r["slice_every"]
    known = np.where((q % every == 0) & (q >= 0) & (q < depth * every), q // every, depth)
    padded = np.concatenate([src, np.zeros_like(src[:, :, :, :1])], axis=3)[:, :, :, known]
    places = [_places(axis, axis.n, p, source=True) for axis, p in zip(t.axes, (row_parts, column_parts), strict=True)]
    return _zero_beyond(padded, places)


def _zero_beyond(a, places):
    """Index the last two axes, zero where an index is outside."""
    inside = [np.where((i >= 0) & (i < n), i, n) for i, n in zip(places, a.shape[-2:], strict=True)]
    padded = np.pad(a, [(0, 0)] * (a.ndim - 2) + [(0, 1), (0, 1)])
    return padded[..., inside[0][(..., *[None] * places[1].ndim)], inside[1]]


def _zero_last(a):
    return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, 1)])
