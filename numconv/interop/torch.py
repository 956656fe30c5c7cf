"""numconv's functions for PyTorch's autograd: `numconv.interop.torch.conv2d(x, w)` records what `backward()` needs.

Every function `f` of numconv that has a neighbour `f_vjp` is here under its own name, with its own arguments. Tensors on the CPU
are read where they lie. Convolutions, their gradients and linear layers are differentiable any number of times, and what is
linear in its input (pooling, resizing, padding, rectifiers) is too; all else is differentiable once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from . import _pairs
from ._pairs import Pair, pair, reader


def differentiable(f: Callable[..., Any], f_vjp: Callable[..., Any]) -> Callable[..., Any]:
    """Make of a pair of functions in numconv's manner one function that PyTorch differentiates.

    Parameters
    ----------
    f : callable
        Function of tensors and settings. If it returns a tuple, its first tensor has a gradient, the others have none.
    f_vjp : callable
        Function of the same arguments that returns `(value, pullback)`, where pullback is a `Pullback`, whose names are those of
        arguments of `f`. Gradients of complex arguments are those of `Pullback`, not conjugated.

    Returns
    -------
    callable
        Function of the arguments of `f`, differentiable once.

    Examples
    --------
    >>> import torch
    >>> import numconv
    >>> from numconv.interop.torch import differentiable
    >>> softplus = differentiable(numconv.softplus, numconv.softplus_vjp)
    >>> x = torch.tensor([0.0], requires_grad=True)
    >>> softplus(x).backward()
    >>> x.grad
    tensor([0.5000])
    """
    return _differentiable(Pair(f, f_vjp))


class _Call(NamedTuple):
    """A function of the tensors `names`; all other arguments are settled."""

    of: Pair
    names: tuple[str, ...]
    settings: dict[str, Any]

    def arguments(self, tensors: tuple[torch.Tensor, ...]) -> dict[str, Any]:
        return {**dict(zip(self.names, tensors, strict=True)), **self.settings}


def _differentiable(of: Pair) -> Callable[..., Any]:
    read = reader(of.f)

    @functools.wraps(of.f)
    def function(*args: Any, **kwargs: Any) -> Any:
        arguments = read(*args, **kwargs)
        tensors = {name: a for name, a in arguments.items() if isinstance(a, torch.Tensor)}
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors.values())):
            return of.f(**{**arguments, **{name: t.detach() for name, t in tensors.items()}})
        settings = {name: a for name, a in arguments.items() if name not in tensors}
        return _Value.apply(_Call(of, tuple(tensors), settings), *tensors.values())

    return function


class _Value(torch.autograd.Function):  # type: ignore[misc]
    """The value of a call, whose gradients come by rules or from its pullback."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: torch.Tensor) -> Any:
        arguments = call.arguments(tuple(t.detach() for t in tensors))
        if call.of.rules and call.of.rules.alone:
            y, known = call.of.f(**arguments), tuple(call.of.rules.gradients)
        else:
            y, ctx.pullback = call.of.f_vjp(**arguments)
            known = ctx.pullback.names
        for name, t in zip(call.names, tensors, strict=True):
            if t.requires_grad and name not in known:
                raise TypeError(f"{call.of.f.__name__} has no gradient in {name}; needed {name}.detach()")
        ctx.call = call
        ctx.save_for_backward(*tensors)
        if isinstance(y, tuple):
            ctx.mark_non_differentiable(*y[1:])
        return y

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
        call, v = ctx.call, cotangents[0]
        tensors = ctx.saved_tensors  # those written to since are refused here
        wanted = tuple(name for name, needed in zip(call.names, ctx.needs_input_grad[1:], strict=True) if needed)
        if call.of.rules and (call.of.rules.alone or torch.is_grad_enabled()):
            rules, arguments = call.of.rules.gradients, call.arguments(tensors)
            found = [rule and _conjugate(rule(_named, _conjugate(v), **arguments)) for rule in map(rules.get, wanted)]
        else:
            found = _Gradients.apply(call, ctx.pullback, wanted, v, *tensors)
        gradients = dict(zip(wanted, found, strict=True))
        return None, *(_real(gradients.get(name), t) for name, t in zip(call.names, tensors, strict=True))


class _Gradients(torch.autograd.Function):  # type: ignore[misc]
    """What a pullback gives. It depends on the tensors too, but how is not known: to differentiate it is refused."""

    @staticmethod
    def forward(ctx: Any, call: _Call, pullback: Any, wanted: tuple[str, ...], v: torch.Tensor, *_: torch.Tensor) -> Any:
        ctx.name = call.of.f.__name__
        return tuple(map(_conjugate, pullback(_conjugate(v.detach()), wrt=wanted)))

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> Any:
        raise RuntimeError(f"{ctx.name} of numconv.interop.torch is differentiable once; its gradient was to be differentiated")


def _conjugate(t: torch.Tensor) -> torch.Tensor:
    """Go between PyTorch's gradients of complex numbers and numconv's."""
    return t.conj() if t.is_complex() else t


def _real(gradient: torch.Tensor | None, t: torch.Tensor) -> torch.Tensor | None:
    return gradient.real if gradient is not None and gradient.is_complex() and not t.is_complex() else gradient


@functools.cache
def _named(name: str) -> Callable[..., Any]:
    return _differentiable(pair(name))


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _named(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_pairs.names()})
