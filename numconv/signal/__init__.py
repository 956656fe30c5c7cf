"""scipy.signal's convolutions, with its arguments, modes, boundaries, results and errors, on numconv's kernels.

`import numconv.signal as signal` in place of `from scipy import signal` is all it takes. What the kernels do not know (booleans,
objects, empty arrays, broadcasting along some axes, wrong arguments) SciPy itself answers, so that its answers are SciPy's.
"""

from __future__ import annotations

from timeit import Timer
from typing import Any

import numpy as np
from scipy import signal as reference
from scipy.signal import correlation_lags

from .._array import Array
from .doors import door
from .window import Boundary, fastest, filtered, is_tiny, is_tiny_image, only_direct, swaps

__all__ = [
    "choose_conv_method",
    "convolve",
    "convolve2d",
    "correlate",
    "correlate2d",
    "correlation_lags",
    "fftconvolve",
    "oaconvolve",
]

_BOUNDARIES: dict[Any, Boundary] = {"fill": "zeros", "wrap": "circular", "circular": "circular", "symm": "symmetric"}
_BOUNDARIES["symmetric"] = "symmetric"


@door
def convolve(in1: Array, in2: Array, mode: str = "full", method: str = "auto") -> Array:
    r"""Convolve two arrays of any, and the same, number of axes.

    .. math:: y[p] = \sum_k \text{in1}[p - k] \, \text{in2}[k]

    Parameters
    ----------
    in1, in2 : array_like
        As many axes each. Lists become NumPy's arrays.
    mode : {"full", "valid", "same"}, default "full"
        Every position where the two meet; those where one holds the other whole; or as many as in1 has, of the middle.
    method : {"auto", "direct", "fft"}, default "auto"
        "auto" chooses what should take the least time, but never transforms for numbers that are not finite, and is exact for
        integers. "fft" does as `scipy.signal.convolve` does.

    Returns
    -------
    array
        Of the library of the arguments, and of the dtype that `scipy.signal.convolve` gives.

    Raises
    ------
    ValueError
        As `scipy.signal.convolve`, in its words.
    TypeError
        If the arrays are of different libraries.

    See Also
    --------
    scipy.signal.convolve : the same, slower.

    Examples
    --------
    >>> from numconv import signal
    >>> signal.convolve([1.0, 2.0, 4.0], [1.0, -1.0])
    array([ 1.,  1.,  2., -4.])
    """
    if method == "fft" and in1.dtype.kind in "iu":
        return reference.convolve(in1, in2, mode, method)
    result = None if is_tiny(in1, in2) else filtered(in1, in2, mode, method, flip=True)
    return reference.convolve(in1, in2, mode, method) if result is None else result


@door
def correlate(in1: Array, in2: Array, mode: str = "full", method: str = "auto") -> Array:
    r"""Correlate two arrays of the same number of axes; the second is conjugated.

    .. math:: y[p] = \sum_k \text{in1}[p + k] \, \overline{\text{in2}[k]}

    Parameters, result and errors are those of `convolve`.

    Examples
    --------
    >>> from numconv import signal
    >>> signal.correlate([1.0, 2.0, 4.0], [1.0, -1.0])
    array([-1., -1., -2.,  4.])
    """
    if method == "fft" and in1.dtype.kind in "iu":
        return reference.correlate(in1, in2, mode, method)
    w = np.conj(in2) if in2.dtype.kind == "c" else in2
    result = None if is_tiny(in1, in2) else filtered(in1, w, mode, method, flip=False)
    return reference.correlate(in1, in2, mode, method) if result is None else result


@door
def fftconvolve(in1: Array, in2: Array, mode: str = "full", axes: Any = None) -> Array:
    """Convolve two arrays, of which integers become float64: `scipy.signal.fftconvolve`, by whatever method takes the least time.

    Parameters
    ----------
    in1, in2 : array_like
        As many axes each.
    mode : {"full", "valid", "same"}, default "full"
        As of `convolve`.
    axes : int or sequence of int, optional
        Axes to convolve along, the others being broadcast; all of them if left out.

    Returns
    -------
    array
        Of a floating dtype. A NaN reaches the positions that see it, not all of them.

    Examples
    --------
    >>> from numconv import signal
    >>> signal.fftconvolve([1.0, 2.0, 4.0], [1.0, -1.0], mode="same").round(6)
    array([1., 1., 2.])
    """
    return _floating(reference.fftconvolve, in1, in2, mode, axes)


@door
def oaconvolve(in1: Array, in2: Array, mode: str = "full", axes: Any = None) -> Array:
    """Convolve two arrays as `fftconvolve`, whose arguments it has: SciPy's overlap-add, by whatever method takes the least time.

    Examples
    --------
    >>> from numconv import signal
    >>> signal.oaconvolve([1.0, 2.0, 4.0, 8.0, 16.0], [1.0, -1.0], mode="valid").round(6)
    array([1., 2., 4., 8.])
    """
    return _floating(reference.oaconvolve, in1, in2, mode, axes)


@door
def convolve2d(in1: Array, in2: Array, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Array:
    """Convolve two images, with a choice of what lies beyond the borders of the first.

    Parameters
    ----------
    in1, in2 : array_like, two axes
        The images.
    mode : {"full", "valid", "same"}, default "full"
        As of `convolve`.
    boundary : {"fill", "wrap", "symm"}, default "fill"
        What lies beyond the borders: `fillvalue`; the image again; or its mirror image.
    fillvalue : number, default 0
        See boundary.

    Returns
    -------
    array
        Of the library of the arguments, and of the dtype that `scipy.signal.convolve2d` gives.

    Raises
    ------
    ValueError
        As `scipy.signal.convolve2d`; and if "wrap" or "symm" should repeat an image without samples, which ends SciPy's process.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import signal
    >>> signal.convolve2d(np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((1, 3)), mode="same", boundary="wrap")
    array([[ 5.,  4.],
           [11., 10.]])
    """
    return _image(reference.convolve2d, in1, in2, mode, boundary, fillvalue, flip=True)


@door
def correlate2d(in1: Array, in2: Array, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Array:
    """Correlate two images, the second conjugated; parameters are those of `convolve2d`.

    With an even number of taps, mode "same" begins one sample later than `correlate` does: so does SciPy's.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import signal
    >>> signal.correlate2d(np.array([[1.0, 2.0, 4.0]]), np.array([[1.0, 10.0]]), mode="same")
    array([[21., 42.,  4.]])
    """
    return _image(reference.correlate2d, in1, in2, mode, boundary, fillvalue, flip=False)


@door
def choose_conv_method(in1: Array, in2: Array, mode: str = "full", measure: bool = False) -> Any:
    """Name the method that `convolve` should take the least time with: "direct" or "fft".

    Parameters
    ----------
    in1, in2 : array_like
        What is to be convolved.
    mode : {"full", "valid", "same"}, default "full"
        As of `convolve`.
    measure : bool, default False
        Time both methods rather than estimate.

    Returns
    -------
    str, or (str, dict)
        The method; with `measure` also the seconds that each took. Never "fft" where it would lose digits of integers, or spread
        a NaN or infinity, however fast it is.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import signal
    >>> signal.choose_conv_method(np.ones(1000), np.ones(5))
    'direct'
    """
    if measure:
        times = {method: _seconds(in1, in2, mode, method) for method in ("fft", "direct")}
        return "direct" if only_direct(in1, in2) else min(times, key=times.__getitem__), times
    chosen = fastest(in1, in2, mode)
    return reference.choose_conv_method(in1, in2, mode) if chosen is None else chosen


def _floating(f: Any, in1: Array, in2: Array, mode: str, axes: Any) -> Array:
    if axes is None and any(min(sizes) > 1 for sizes in zip(in1.shape, in2.shape, strict=False)):
        floats = [a.astype(np.float64) if a.dtype.kind in "iu" else a for a in (in1, in2)]
        if (result := filtered(floats[0], floats[1], mode, "auto", flip=True)) is not None:
            return result
    return f(in1, in2, mode=mode, axes=axes)


def _image(f: Any, in1: Array, in2: Array, mode: str, boundary: str, fillvalue: Any, flip: bool) -> Array:
    if (
        mode == "full"
        and in1.ndim == in2.ndim == 2
        and not in1.size
        and len(in2)
        and _BOUNDARIES.get(boundary, "zeros") != "zeros"
    ):
        # SciPy divides by the size: a signal that ends the process
        raise ValueError(f"in1 has shape {in1.shape}: there are no samples that boundary={boundary!r} could repeat; needed some")
    if is_tiny_image(in1, in2):
        return f(in1, in2, mode, boundary, fillvalue)
    result = None
    if in1.ndim == in2.ndim == 2 and mode in ("full", "valid", "same") and boundary in _BOUNDARIES and np.ndim(fillvalue) == 0:
        w = np.conj(in2) if in2.dtype.kind == "c" and not flip else in2
        where = {} if flip else {"later": True}
        result = filtered(in1, w, mode, "direct", flip=flip, boundary=_BOUNDARIES[boundary], fill=fillvalue, **where)
    if result is None:
        return f(in1, in2, mode, boundary, fillvalue)
    return np.conj(result) if not flip and mode == "valid" and swaps(in1, in2, mode) else result  # as SciPy does


def _seconds(in1: Array, in2: Array, mode: str, method: str) -> float:
    timer = Timer(lambda: convolve(in1, in2, mode, method))
    timer.timeit(1)
    calls, seconds = timer.autorange()
    return min([seconds, *timer.repeat(2, calls)]) / calls
