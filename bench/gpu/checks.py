"""Every contraction, dtype and precision against float64, twice for the same bits, into memory that was NaN before."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np

from numconv import _cuda
from numconv._cuda import DTYPES
from numconv.conv import contractions, geometry

GIVEN = {"contract_y": "xw", "contract_x": "yw", "contract_w": "xy"}
SHAPES = {  # x, w, stride, padding, dilation, groups: tails, strides, dilation, groups, few and many channels
    "3x3": ((2, 64, 14, 14), (64, 64, 3, 3), 1, 1, 1, 1),
    "ragged": ((3, 37, 13, 11), (29, 37, 3, 2), 1, ((1, 0), (0, 1)), 1, 1),
    "stride 2": ((2, 24, 15, 17), (40, 24, 3, 3), 2, 1, 1, 1),
    "1x1": ((2, 48, 9, 9), (72, 48, 1, 1), 1, 0, 1, 1),
    "stem": ((2, 3, 33, 31), (16, 3, 7, 7), 2, 3, 1, 1),
    "dilated": ((1, 16, 19, 19), (16, 16, 3, 3), 1, 2, 2, 1),
    "4 groups": ((2, 16, 12, 12), (32, 4, 3, 3), 1, 1, 1, 4),
    "depthwise": ((2, 24, 14, 14), (24, 1, 3, 3), 1, 1, 1, 24),
    "depthwise 5x5/2": ((2, 24, 17, 15), (48, 1, 5, 5), 2, 2, 1, 24),
    "signal": ((2, 8, 301), (12, 8, 9), 3, 4, 1, 1),
    "volume": ((1, 6, 7, 8, 9), (10, 6, 3, 3, 3), 1, 1, 1, 1),
}
LARGE = {  # on a GPU only: long sums, many blocks
    "56 3x3 64": ((8, 64, 56, 56), (64, 64, 3, 3), 1, 1, 1, 1),
    "7 3x3 512": ((8, 512, 7, 7), (512, 512, 3, 3), 1, 1, 1, 1),
    "224 stem": ((8, 3, 224, 224), (64, 3, 7, 7), 2, 3, 1, 1),
    "56 depthwise": ((8, 128, 56, 56), (128, 1, 3, 3), 1, 1, 1, 128),
}
# Norm of the error over norm of the result. For `tf32` that of numbers of 10 bits, for 16 bits that of one rounding.
WITHIN = {"float32": 3e-6, "float64": 1e-13, "float16": 1e-3, "bfloat16": 8e-3}
TF32 = 1e-3


def run(cupy: Any, *, small: bool, first: int = 0) -> dict[str, Any]:
    """Check them all from number `first` on; `small` leaves out what takes an emulator minutes.

    An error that spoils CUDA for this process ends it early: `next` says where another process goes on.
    """
    rows, wrong = [], {}
    for number, case in enumerate(cases(small)):
        if number < first:
            continue
        row = dict(zip(("shape", "dtype", "precision", "contraction"), case, strict=True))
        row["error"], problem = _tried(cupy, *case)
        limit = TF32 if row["precision"] == "tf32" else WITHIN[row["dtype"]]
        if problem or not row["error"] <= limit:
            wrong[" ".join(case)] = problem or f"error {row['error']:.1e}, needed {limit:.0e}"
        rows.append(row)
        if problem and _spoiled(cupy):
            return {"rows": rows, "wrong": wrong, "next": number + 1}
    return {"rows": rows, "wrong": wrong, "next": None}


def cases(small: bool) -> Iterator[tuple[str, str, str, str]]:
    """Yield what is checked: shape, dtype, precision and contraction, by name."""
    for shape in list(SHAPES)[1:3] if small else SHAPES | LARGE:
        for dtype in _dtypes():
            for precision in contractions.PRECISIONS if dtype == "float32" else ("default",):
                for name in GIVEN:
                    yield shape, dtype, precision, name


def arrays(g: Any, dtype: str) -> dict[str, Any]:
    """Return x, w and y of a geometry, on the host, in a dtype."""
    rng = np.random.default_rng(0)
    shapes = {"x": g.x_shape, "w": g.w_shape, "y": g.y_shape}
    return {letter: rng.standard_normal(shape, np.float32).astype(_dtype(dtype)) for letter, shape in shapes.items()}


def drawer(cupy: Any, x: Any, precision: str) -> Any:
    """Return the three contractions for arrays like x."""
    import array_api_compat

    return contractions.drawer(array_api_compat.array_namespace(x), x, precision=precision)


def _tried(cupy: Any, shape: str, dtype: str, precision: str, name: str) -> tuple[float, str]:
    """Return the error of one contraction, and what else is wrong; whatever is raised is this one's trouble."""
    x, w, *how = (SHAPES | LARGE)[shape]
    try:
        return _error(cupy, name, geometry.conv(x, w, *how), dtype, precision)
    except Exception as error:
        return float("nan"), f"{type(error).__name__}: {error}"


def _spoiled(cupy: Any) -> bool:
    """Say whether CUDA refuses all further work of this process, as after a kernel that read where nothing is."""
    try:
        cupy.cuda.Device().synchronize()
    except RuntimeError:
        return True
    return False


def _dtypes() -> tuple[str, ...]:
    return tuple(dtype for dtype in DTYPES if dtype != "bfloat16" or find_spec("ml_dtypes") is not None)


def _error(cupy: Any, name: str, g: Any, dtype: str, precision: str) -> tuple[float, str]:
    """Return the error of one contraction, and what else is wrong."""
    host = arrays(g, dtype)
    given = [cupy.asarray(host[letter]) for letter in GIVEN[name]]
    reference = [cupy.asarray(host[letter].astype(np.float64)) for letter in GIVEN[name]]
    from numconv.conv.cuda import plain  # one thread per element, in float64: the simplest kernel there is

    expected = getattr(plain, name)(*reference, g).get()
    kernels = drawer(cupy, given[0], precision)
    _poison(cupy, expected.shape, given[0].dtype)
    found = [getattr(kernels, name)(*given, g).get() for _ in range(2)]
    same = found[0].tobytes() == found[1].tobytes()
    wide = found[0].astype(np.float64)
    error = float(np.linalg.norm(wide - expected) / np.linalg.norm(expected))
    return (error if np.isfinite(wide).all() else float("nan")), "" if same else "two runs differ in their bits"


def _poison(cupy: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Fill memory with NaN that the next array of this size will lie in."""
    spoiled = _cuda.empty(shape, dtype, what="poison")
    spoiled[...] = float("nan")
    del spoiled


def _dtype(name: str) -> Any:
    if name == "bfloat16":
        from ml_dtypes import bfloat16

        return bfloat16
    return np.dtype(name)
