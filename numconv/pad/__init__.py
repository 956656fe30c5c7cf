"""Padding and cropping, beside its vector-Jacobian product: the door of the room."""

from __future__ import annotations

from typing import Any

from .. import _array
from .._array import Array
from .._border import PaddingMode
from .._extend import extended, extended_adjoint
from .._pullback import Pullback
from .._window import frozen
from . import geometry
from .geometry import Widths

__all__ = ["pad", "pad_vjp"]


def pad(x: Array, padding: Widths, mode: PaddingMode = "zeros", value: complex = 0) -> Array:
    r"""Continue x beyond its borders along its last axes, or crop it there.

    .. math:: y[\ldots, p] = x[\ldots, s(p - \text{lo})]

    where the mode says which sample :math:`s(q)` stands for a place q outside:

    ============  =============================  ==================
    mode          lo = hi = 3                    in NumPy
    ============  =============================  ==================
    "zeros"       ``v v v | a b c d | v v v``    ``"constant"``
    "reflect"     ``d c b | a b c d | c b a``    ``"reflect"``
    "symmetric"   ``c b a | a b c d | d c b``    ``"symmetric"``
    "replicate"   ``a a a | a b c d | d d d``    ``"edge"``
    "circular"    ``b c d | a b c d | a b c``    ``"wrap"``
    ============  =============================  ==================

    All modes go on for as long as needed, periodically, whatever the size of x.

    Parameters
    ----------
    x : array of a numeric dtype, shape (..., *size)
        Input.
    padding : int or sequence
        How many samples to add: one int or one (lo, hi) pair for each of the last axes, first axis first (so (1, 2) is 1 at both
        ends of the last axis but one, and 2 at both ends of the last; [(1, 2)] is 1 before and 2 after along the last). An int
        stands for both ends of all axes but the first two, (batch, channels, \*size). Negative numbers crop.
    mode : str or sequence of str, default "zeros"
        One word for all axes, or one per axis.
    value : number, default 0
        What "zeros" pads with.

    Returns
    -------
    array, shape (..., \*out)
        With ``out = size + lo + hi``, in the library, on the device and of the dtype of x; never a view.

    Raises
    ------
    TypeError
        If x is no array of numbers, padding holds no ints, or value is no number that the dtype of x can hold.
    ValueError
        If padding does not fit the axes of x or leaves nothing of one, or mode is another word.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import pad
    >>> pad(np.array([1, 2, 3]), [(2, 1)], "reflect")
    array([3, 2, 1, 2, 3, 2])
    >>> pad(np.array([[1, 2, 3], [4, 5, 6]]), [0, (-1, 2)], value=9)
    array([[2, 3, 9, 9],
           [5, 6, 9, 9]])
    """
    xp, x = _array.numbers(x=x)
    pads, modes = geometry.pad(tuple(x.shape), frozen(padding), frozen(mode))
    return extended(xp, x, pads, modes, _checked(xp, value, x.dtype))


def pad_vjp(x: Array, padding: Widths, mode: PaddingMode = "zeros", value: complex = 0) -> tuple[Array, Pullback]:
    """`pad`, and the pullback of a cotangent dy to dx: at each sample, the sum of dy over all places that repeat it.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import pad_vjp
    >>> y, pullback = pad_vjp(np.array([1.0, 2.0, 3.0]), [(2, 1)], "reflect")
    >>> pullback(np.ones(6))
    array([1., 3., 2.])
    """
    xp, x = _array.floats(x=x)
    size = tuple(x.shape)
    pads, modes = geometry.pad(size, frozen(padding), frozen(mode))
    y = extended(xp, x, pads, modes, _checked(xp, value, x.dtype))
    return y, Pullback(y, x=lambda dy: extended_adjoint(xp, dy, size[len(size) - len(pads) :], pads, modes))


def _checked(xp: Any, value: complex, dtype: Any) -> complex:
    """Refuse what would be cut off: a fraction among integers, an imaginary part among reals."""
    kinds = {"integral": (int,), "real floating": (int, float), "complex floating": (int, float, complex)}
    for kind, fitting in kinds.items():
        if _array.is_of(xp, dtype, (kind,)) and (isinstance(value, bool) or not isinstance(value, fitting)):
            raise TypeError(f"value={value!r}; needed a number that fits dtype {dtype}")
    return value
