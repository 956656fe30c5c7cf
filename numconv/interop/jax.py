"""numconv's functions for JAX: `numconv.interop.jax.conv2d(x, w)` works under `jax.jit`, `jax.grad` and `jax.vmap`.

Every function `f` of numconv that has a neighbour `f_vjp` is here under its own name, with its own arguments. Known arrays are
given to `f` itself; where JAX traces, compiled code calls back to it on the CPU (`jax.pure_callback`), under `jax.vmap` once per
sample. Convolutions, their gradients and linear layers are differentiable any number of times, and what is linear in its input
(pooling, resizing, padding, rectifiers) is too; all else is differentiable once. Differentiation is in reverse only, as with
`jax.custom_vjp`: second derivatives by `jax.jacrev(jax.jacrev(f))`, not by `jax.hessian`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._window import frozen
from . import _pairs
from ._maps import ADJOINT, INPUT, stem_of
from ._pairs import Pair, pair, reader

Spec = tuple[tuple[int, ...], Any]  # shape and dtype


def differentiable(f: Callable[..., Any], f_vjp: Callable[..., Any]) -> Callable[..., Any]:
    """Make of a pair of functions in numconv's manner one function that JAX differentiates, compiles and vectorises.

    Parameters
    ----------
    f : callable
        Function of arrays and hashable settings. If it returns a tuple, its first array has a gradient, the others have none.
        Where it is traced it is called once on zeros, to see the shape of its result.
    f_vjp : callable
        Function of the same arguments that returns `(value, pullback)`, where pullback is a `Pullback`, whose names are those of
        arguments of `f`. A gradient in another argument is refused.

    Returns
    -------
    callable
        Function of the arguments of `f`, differentiable once.

    Examples
    --------
    >>> import jax
    >>> import numconv
    >>> from numconv.interop.jax import differentiable
    >>> softplus = differentiable(numconv.softplus, numconv.softplus_vjp)
    >>> print(jax.jit(jax.grad(softplus))(0.0 + jax.numpy.zeros(())))
    0.5
    """
    return _differentiable(Pair(f, f_vjp))


def _differentiable(of: Pair) -> Callable[..., Any]:
    read = reader(of.f)

    @functools.wraps(of.f)
    def function(*args: Any, **kwargs: Any) -> Any:
        arguments = read(*args, **kwargs)
        arrays = {name: jnp.asarray(a) for name, a in arguments.items() if isinstance(a, (jax.Array, np.ndarray))}
        settings = tuple((name, frozen(a)) for name, a in arguments.items() if name not in arrays)
        return _value(_Call(of, tuple(arrays), settings))(*arrays.values())

    return function


class _Call(NamedTuple):
    """A function of the arrays `names`; all other arguments are settled. Equal calls are compiled once."""

    of: Pair
    names: tuple[str, ...]
    settings: tuple[tuple[str, Any], ...]

    def arguments(self, arrays: tuple[Any, ...]) -> dict[str, Any]:
        return {**dict(zip(self.names, arrays, strict=True)), **dict(self.settings)}

    def value(self, *arrays: Any) -> tuple[Any, ...]:
        y = self.of.f(**self.arguments(arrays))
        return y if isinstance(y, tuple) else (y,)


@functools.lru_cache(1024)
def _value(call: _Call) -> Any:
    """Return the call as a function that JAX differentiates by rules, or through a pullback."""

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def value(*arrays: Any) -> Any:
        y = _computed(call.value, lambda: _probed(call, _specs(arrays))[0], *arrays)
        return y if len(y) > 1 else y[0]

    def forward(*primals: Any) -> tuple[Any, Any]:
        arrays = tuple(p.value for p in primals)
        wanted = _Names(name for name, p in zip(call.names, primals, strict=True) if p.perturbed)
        return value(*arrays), (arrays, wanted)

    def backward(kept: tuple[tuple[Any, ...], _Names], cotangent: Any) -> tuple[Any, ...]:
        (arrays, wanted), v = kept, cotangent[0] if isinstance(cotangent, (tuple, list)) else cotangent
        if isinstance(v, jax.custom_derivatives.SymbolicZero):
            return (None,) * len(arrays)
        found = (_by_rules if call.of.rules else _by_pullback)(call, wanted, v, arrays)
        return tuple(_as(found.get(name), a) for name, a in zip(call.names, arrays, strict=True))

    value.defvjp(forward, backward, symbolic_zeros=True)
    return value


@jax.tree_util.register_static
class _Names(tuple[str, ...]):
    """Names of arguments, which JAX keeps beside arrays without looking at them."""

    __slots__ = ()


def _by_rules(call: _Call, wanted: _Names, v: Any, arrays: tuple[Any, ...]) -> dict[str, Any]:
    rules = call.of.rules.gradients  # type: ignore[union-attr]
    _check(call, wanted, tuple(rules))
    arguments = call.arguments(arrays)
    return {name: rule(_named, v, **arguments) for name in wanted if (rule := rules[name]) is not None}


def _by_pullback(call: _Call, wanted: _Names, v: Any, arrays: tuple[Any, ...]) -> dict[str, Any]:
    if _known(v, *arrays):
        _, pullback = call.of.f_vjp(**call.arguments(arrays))
        _check(call, wanted, pullback.names)
        return dict(zip(wanted, pullback(v, wrt=wanted), strict=True))
    _check(call, wanted, _probed(call, _specs(arrays))[1])
    shapes = dict(zip(call.names, _specs(arrays), strict=True))
    run = _Gradients(call, wanted)

    @jax.custom_jvp  # type: ignore[untyped-decorator]
    def gradients(*given: Any) -> tuple[Any, ...]:
        return _computed(run, lambda: tuple(shapes[name] for name in wanted), *given)

    @gradients.defjvp  # type: ignore[untyped-decorator]
    def refused(primals: Any, tangents: Any) -> Any:
        raise TypeError(
            f"{call.of.f.__name__} of numconv.interop.jax is differentiable once; its gradient was to be differentiated"
        )

    return dict(zip(wanted, gradients(v, *arrays), strict=True))


def _check(call: _Call, wanted: _Names, known: tuple[str, ...]) -> None:
    """Refuse to take what has no gradient for a constant without being told."""
    for name in wanted:
        if name not in known:
            raise TypeError(f"{call.of.f.__name__} has no gradient in {name}; needed jax.lax.stop_gradient({name})")


class _Gradients(NamedTuple):
    """What a pullback gives, computed again from the arguments: JAX keeps arrays between the passes, not pullbacks."""

    call: _Call
    wanted: tuple[str, ...]

    def __call__(self, v: Any, *arrays: Any) -> tuple[Any, ...]:
        found: tuple[Any, ...] = self.call.of.f_vjp(**self.call.arguments(arrays))[1](v, wrt=self.wanted)
        return found


def _computed(f: Any, shapes: Callable[[], tuple[Spec, ...]], *arrays: Any) -> tuple[Any, ...]:
    """Compute at once what is known, and let compiled code call back for what is traced."""
    if _known(*arrays):
        return tuple(f(*arrays))
    results = tuple(jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype)) for shape, dtype in shapes())
    found: tuple[Any, ...] = jax.pure_callback(_Host(f, results), results, *arrays, vmap_method="sequential")
    return found


def _known(*arrays: Any) -> bool:
    return not any(isinstance(a, jax.core.Tracer) for a in arrays)


class _Host(NamedTuple):
    """What compiled code calls: a function on NumPy's arrays, whose results have the promised dtypes."""

    f: Any
    results: tuple[jax.ShapeDtypeStruct, ...]

    def __call__(self, *arrays: Any) -> tuple[Any, ...]:
        return tuple(np.asarray(y, s.dtype) for y, s in zip(self.f(*map(np.asarray, arrays)), self.results, strict=True))


@functools.lru_cache(1024)
def _probed(call: _Call, specs: tuple[Spec, ...]) -> tuple[tuple[Spec, ...], tuple[str, ...]]:
    """Return shapes and dtypes of the value, and which arguments have gradients: by a call on zeros, once for such arrays."""
    given = dict(zip(call.names, specs, strict=True))
    name = call.of.f.__name__
    if (stem := stem_of(name)) != name and name.endswith(ADJOINT):
        return (given[INPUT[stem]],), ("v",)
    if stem == "max_unpool":  # zeros would be indices out of their windows, which it refuses
        size = frozen(dict(call.settings)["output_size"])
        shape, dtype = given["x"]
        size = size if isinstance(size, tuple) else (size,) * (len(shape) - 2)
        return (((*shape[: len(shape) - len(size)], *size), dtype),), ("x",)
    with np.errstate(all="ignore"):
        zeros = tuple(np.zeros(shape, dtype) for shape, dtype in specs)
        if call.of.rules and call.of.rules.alone:
            return _specs(call.value(*zeros)), tuple(call.of.rules.gradients)
        y, pullback = call.of.f_vjp(**call.arguments(zeros))
    return _specs(y if isinstance(y, tuple) else (y,)), pullback.names


def _specs(arrays: tuple[Any, ...]) -> tuple[Spec, ...]:
    return tuple((tuple(a.shape), np.dtype(a.dtype)) for a in arrays)


def _as(gradient: Any, a: Any) -> Any:
    """Return a gradient in the dtype of its argument; None, which stands for zero, where integers have no gradient."""
    if gradient is None or not jnp.issubdtype(a.dtype, jnp.inexact):
        return None
    real = jnp.iscomplexobj(gradient) and not jnp.iscomplexobj(a)
    return jnp.asarray(gradient.real if real else gradient, a.dtype)


@functools.cache
def _named(name: str) -> Callable[..., Any]:
    return _differentiable(pair(name))


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _named(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_pairs.names()})
