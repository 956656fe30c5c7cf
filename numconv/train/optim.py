"""Optimisers as pairs of functions over trees: `init(params) -> state`, `update(grads, state, params, step) -> (params, state)`.

Nothing given is written to: a step's parameters and state stay valid after the next step. The step number is an argument, from 0,
so that the state is only arrays. Plain array operations, written so that each array is walked few times; Adam has kernels too,
for NumPy's and CuPy's arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

from .. import _array
from .._array import Array
from .._pointwise import pointwise
from .._tree import Tree, leaves, tree_map
from .schedule import Rate, rate_at


class Optimizer(NamedTuple):
    """`init` makes the state for given parameters; `update(grads, state, params, step)` returns the next `(params, state)`."""

    init: Callable[[Tree], Tree]
    update: Callable[[Tree, Tree, Tree, int], tuple[Tree, Tree]]


class Coefficients(NamedTuple):
    """A step of Adam: m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p = p - scale m / (sqrt(v) + floor) - shrink p."""

    b1: float
    b2: float
    scale: float
    floor: float
    shrink: float


def sgd(rate: Rate, momentum: float = 0.0, *, nesterov: bool = False) -> Optimizer:
    r"""Gradient descent, with heavy-ball or Nesterov momentum.

    .. math:: v \leftarrow \mu v + g, \quad w \leftarrow w - \eta v \quad (\text{Nesterov: } w \leftarrow w - \eta (g + \mu v))

    Parameters
    ----------
    rate : float or callable
        Learning rate, or a function from the step (from 0) to it.
    momentum : float, default 0
        Share of the last velocity that is kept, in [0, 1).
    nesterov : bool, default False
        Look ahead along the velocity.

    References
    ----------
    Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013; in the form of torch.optim.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.train import sgd
    >>> optimizer = sgd(0.1)
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> params, state = optimizer.update({"w": np.array([10.0, 0.0])}, optimizer.init(params), params, 0)
    >>> params["w"]
    array([0., 2.])
    """
    _check_rate(rate)
    _in_unit("momentum", momentum)
    if nesterov and momentum == 0:
        raise ValueError("nesterov=True with momentum=0; needed a momentum above 0 to look ahead along")

    def init(params: Tree) -> Tree:
        return {"velocity": tree_map(_zeros, params)} if momentum else {}

    def update(grads: Tree, state: Tree, params: Tree, step: int) -> tuple[Tree, Tree]:
        eta = rate_at(rate, step)
        if not momentum:
            return tree_map(lambda p, g: p - eta * g, params, grads), {}
        velocity = tree_map(lambda v, g: momentum * v + g, state["velocity"], grads)
        ahead = tree_map(lambda v, g: g + momentum * v, velocity, grads) if nesterov else velocity
        return tree_map(lambda p, v: p - eta * v, params, ahead), {"velocity": velocity}

    return Optimizer(init, update)


def adam(rate: Rate, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    r"""Adam: steps scaled by running means of the gradient and of its square.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
       w \leftarrow w - \eta \, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}, \quad t = \text{step} + 1

    Parameters
    ----------
    rate : float or callable
        Learning rate, or a function from the step (from 0) to it.
    betas : tuple of float, default (0.9, 0.999)
        Shares of the running means that are kept at each step, in [0, 1).
    eps : float, default 1e-8
        Keeps the division finite where gradients vanish.

    References
    ----------
    Kingma and Ba, Adam: a method for stochastic optimization, arXiv:1412.6980, algorithm 1.
    """
    return adamw(rate, betas=betas, eps=eps, decay=0.0)


def adamw(rate: Rate, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, decay: float = 0.01) -> Optimizer:
    r"""Adam with decoupled weight decay: weights shrink by ``rate * decay`` of themselves, apart from the step of the gradient.

    Arrays with at most one axis (biases) do not decay.

    Parameters
    ----------
    rate, betas, eps
        As for `adam`.
    decay : float, default 0.01
        Strength of the decay.

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, arXiv:1711.05101, algorithm 2.
    """
    _check_rate(rate)
    b1, b2 = betas
    _in_unit("betas[0]", b1)
    _in_unit("betas[1]", b2)
    if not eps > 0:
        raise ValueError(f"eps={eps}; needed above 0")
    if not decay >= 0:
        raise ValueError(f"decay={decay}; needed at least 0")

    def init(params: Tree) -> Tree:
        return {"mean": tree_map(_zeros, params), "square": tree_map(_zeros, params)}

    def update(grads: Tree, state: Tree, params: Tree, step: int) -> tuple[Tree, Tree]:
        eta, t = rate_at(rate, step), step + 1
        # w - scale * m / (sqrt(v) + floor) is the formula with numerator and denominator times sqrt(1 - b2**t).
        root = math.sqrt(1 - b2**t)
        c = Coefficients(b1, b2, eta * root / (1 - b1**t), eps * root, eta * decay)
        together = zip(*map(leaves, (params, grads, state["mean"], state["square"])), strict=True)
        after = [_moved(p, g, m, v, c if p.ndim > 1 else c._replace(shrink=0.0)) for p, g, m, v in together]
        params, mean, square = (_tree_of(params, (arrays[i] for arrays in after)) for i in range(3))
        return params, {"mean": mean, "square": square}

    return Optimizer(init, update)


def global_norm(grads: Tree) -> Array:
    """Return the L2 norm of all numbers in a tree together, as an array without axes; NaN or infinite if any of them is."""
    total: Any = 0.0
    for g in leaves(grads):
        total = total + _square.sum(_array.namespace(g=g), g)
    return total**0.5


@pointwise
def _square(xp: ModuleType, g: Array) -> Array:
    return g * g


def clip_by_global_norm(grads: Tree, limit: float) -> tuple[Tree, Array]:
    """Shrink gradients, all by one factor, to a global norm of at most `limit`; return them and the norm before.

    References
    ----------
    Pascanu et al., On the difficulty of training recurrent neural networks, arXiv:1211.5063, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.train import clip_by_global_norm
    >>> grads, norm = clip_by_global_norm({"w": np.array([3.0, 4.0])}, limit=1.0)
    >>> print(grads["w"], norm)
    [0.6 0.8] 5.0
    """
    if not limit > 0:
        raise ValueError(f"limit={limit}; needed above 0")
    norm = global_norm(grads)
    xp = _array.namespace(norm=norm)
    factor = limit / xp.maximum(norm, xp.full_like(norm, limit))
    return tree_map(lambda g: g * factor, grads), norm


def _moved(p: Array, g: Array, m: Array, v: Array, c: Coefficients) -> tuple[Array, Array, Array]:
    """Return one array of parameters, its mean and its square after a step of Adam."""
    xp = _array.namespace(p=p, g=g, m=m, v=v)
    if _array.device(xp, p.dtype) == "cpu" and p.dtype == g.dtype == m.dtype == v.dtype:
        from . import adam_cpu

        return adam_cpu.moved(p, g, m, v, c._asdict())
    if _array.device(xp, p.dtype) == "cuda" and p.dtype == g.dtype == m.dtype == v.dtype:
        from . import adam_cuda

        return adam_cuda.moved(p, g, m, v, c._asdict())
    mean, square = _mixed(c.b1, m, g), _mixed(c.b2, v, g * g)
    away = xp.sqrt(square)
    away += c.floor
    after = mean / away
    after *= -c.scale
    after += p
    if c.shrink:
        after -= c.shrink * p
    return after, mean, square


def _mixed(share: float, old: Array, new: Array) -> Array:
    mixed = share * old
    mixed += (1 - share) * new
    return mixed


def _tree_of(like: Tree, found: Iterable[Array]) -> Tree:
    """Return a tree of the structure of another, of leaves in order."""
    following = iter(found)
    return tree_map(lambda _: next(following), like)


def _zeros(p: Array) -> Array:
    return _array.namespace(p=p).zeros_like(p)


def _check_rate(rate: Rate) -> None:
    if not callable(rate) and not rate >= 0:
        raise ValueError(f"rate={rate}; needed at least 0")


def _in_unit(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value}; needed at least 0 and below 1")
