"""Optimisers as pairs of functions over trees: `init(params) -> state`, `update(grads, state, params, step) -> (params, state)`.

Nothing given is written to: a step's parameters and state stay valid after the next step. The step number is an argument, from 0,
so that the state is only arrays. It may lie on a GPU, and so may the learning rate: then all that follows from them does, and a
CUDA graph that captured a step replays it for the step that it has come to.

Plain array operations, written so that each array is walked few times; kernels for CuPy's arrays, and of Adam for NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import array_api_compat

from .. import _array
from .._array import Array
from .._pointwise import pointwise
from .._tree import Tree, leaves, named_leaves, tree_map
from .schedule import Rate, rate_at


class Optimizer(NamedTuple):
    """`init` makes the state for given parameters; `update(grads, state, params, step)` returns the next `(params, state)`.

    The step counts from 0: an integer, or for parameters of CuPy an array of integers without axes on their GPU, which is read
    there and may be added to in place between two runs of a CUDA graph.
    """

    init: Callable[[Tree], Tree]
    update: Callable[[Tree, Tree, Tree, int | Array], tuple[Tree, Tree]]


class Corrections(NamedTuple):
    """What differs between the steps of Adam: p = p - scale m / (sqrt(v) + floor) - rate decay p."""

    scale: float
    floor: float
    rate: float


def sgd(rate: Rate, momentum: float = 0.0, *, nesterov: bool = False) -> Optimizer:
    r"""Gradient descent, with heavy-ball or Nesterov momentum.

    .. math:: v \leftarrow \mu v + g, \quad w \leftarrow w - \eta v \quad (\text{Nesterov: } w \leftarrow w - \eta (g + \mu v))

    Parameters
    ----------
    rate : float or callable
        Learning rate, or a function from the step (from 0) to it; an array of CuPy without axes is a number, too.
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

    def update(grads: Tree, state: Tree, params: Tree, step: int | Array) -> tuple[Tree, Tree]:
        eta = rate_at(rate, _counted(step))
        if not momentum:
            return tree_map(lambda p, g: _descended(p, g, None, eta, 0.0, False)[0], params, grads), {}
        after = tree_map(lambda p, g, v: _descended(p, g, v, eta, momentum, nesterov), params, grads, state["velocity"])
        return _nth(0, params, after), {"velocity": _nth(1, params, after)}

    return Optimizer(init, update)


def adam(rate: Rate, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Optimizer:
    r"""Adam: steps scaled by running means of the gradient and of its square.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
       w \leftarrow w - \eta \, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}, \quad t = \text{step} + 1

    Parameters
    ----------
    rate : float or callable
        Learning rate, or a function from the step (from 0) to it; an array of CuPy without axes is a number, too.
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

    def update(grads: Tree, state: Tree, params: Tree, step: int | Array) -> tuple[Tree, Tree]:
        now = _corrections(_counted(step), rate, betas, eps)

        def moved(p: Array, g: Array, m: Array, v: Array) -> tuple[Array, Array, Array]:
            return _moved(p, g, m, v, now, betas, decay if p.ndim > 1 else 0.0)

        after = tree_map(moved, params, grads, state["mean"], state["square"])
        return _nth(0, params, after), {"mean": _nth(1, params, after), "square": _nth(2, params, after)}

    return Optimizer(init, update)


def global_norm(grads: Tree) -> Array:
    """Return the L2 norm of all numbers in a tree together, as an array without axes; NaN or infinite if any of them is."""
    return _norm(grads, None)[0]


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
    norm, factor = _norm(grads, limit)
    return tree_map(lambda g: g * factor, grads), norm


def _norm(grads: Tree, limit: float | None) -> tuple[Array, Array | None]:
    """Return the norm, and the factor that brings it to at most the limit, if there is one."""
    arrays = list(leaves(grads))
    if arrays and all(_device(g=g) == "cuda" for g in arrays):
        from . import optim_cuda

        _array.namespace(**dict(named_leaves(grads)))  # on one device
        return optim_cuda.norm(_square.formula, arrays, limit)
    total: Any = 0.0
    for g in arrays:
        total = total + _square.sum(_array.namespace(g=g), g)
    norm = total**0.5
    if limit is None:
        return norm, None
    xp = _array.namespace(norm=norm)
    return norm, limit / xp.maximum(norm, xp.full_like(norm, limit))


@pointwise
def _square(xp: ModuleType, g: Array) -> Array:
    return g * g


def _counted(step: Any) -> int | Array:
    """Return the number of a step: one of CuPy's as int64, on its GPU."""
    if not array_api_compat.is_cupy_array(step):
        return step
    xp = _array.namespace(step=step)
    _array.integers(xp, step=step)
    if step.ndim:
        raise ValueError(f"step has shape {tuple(step.shape)}; needed an integer, or an array of integers without axes")
    return xp.astype(step, xp.int64, copy=False)


def _corrections(step: int | Array, rate: Rate, betas: tuple[float, float], eps: float) -> Corrections | Array:
    """Return what a step of Adam corrects by: numbers, or an array of the three if the step or the rate lies on a GPU.

    w - scale * m / (sqrt(v) + floor) is the formula with numerator and denominator times sqrt(1 - b2**t).
    """
    eta, (b1, b2), on_gpu = rate_at(rate, step), betas, array_api_compat.is_cupy_array(step)
    if on_gpu or not isinstance(eta, float):
        from . import optim_cuda

        return optim_cuda.corrections(step if on_gpu else int(step), eta, betas, eps)
    t = step + 1
    root = math.sqrt(1 - b2**t)
    return Corrections(eta * root / (1 - b1**t), eps * root, eta)


def _descended(
    p: Array, g: Array, velocity: Array | None, eta: float | Array, momentum: float, nesterov: bool
) -> tuple[Array, Array | None]:
    """Return one array of parameters and its velocity, if there is one, after a step of gradient descent."""
    if _device(eta, p=p, g=g, velocity=velocity) == "cuda":
        from . import optim_cuda

        return optim_cuda.descended(p, g, velocity, eta, momentum, nesterov)
    if velocity is None:
        return p - eta * g, None
    velocity = momentum * velocity + g
    ahead = g + momentum * velocity if nesterov else velocity
    return p - eta * ahead, velocity


def _moved(
    p: Array, g: Array, m: Array, v: Array, now: Corrections | Array, betas: tuple[float, float], decay: float
) -> tuple[Array, Array, Array]:
    """Return one array of parameters, its mean and its square after a step of Adam."""
    device = _device(now, p=p, g=g, m=m, v=v)
    if device == "cuda":
        from . import optim_cuda

        return optim_cuda.moved(p, g, m, v, now, betas, decay)
    (scale, floor, rate), (b1, b2) = now, betas
    if device == "cpu":
        from . import adam_cpu

        numbers = {"b1": b1, "b2": b2, "scale": scale, "floor": floor, "shrink": rate * decay}
        return adam_cpu.moved(p, g, m, v, numbers)
    mean, square = _mixed(b1, m, g), _mixed(b2, v, g * g)
    away = _array.namespace(p=p, g=g, m=m, v=v).sqrt(square)
    away += floor
    after = mean / away
    after *= -scale
    after += p
    if rate * decay:
        after -= rate * decay * p
    return after, mean, square


def _mixed(share: float, old: Array, new: Array) -> Array:
    mixed = share * old
    mixed += (1 - share) * new
    return mixed


def _device(number: Any = None, **arrays: Array | None) -> _array.Device:
    """Say whose kernels fit arrays that are updated together, by a number of the host or of a GPU; `generic` if dtypes differ."""
    on_gpu = array_api_compat.is_cupy_array(number)
    xp = _array.namespace(**arrays, step=number if on_gpu else None)
    dtypes = [a.dtype for a in arrays.values() if a is not None]
    device = _array.device(xp, dtypes[0]) if dtypes.count(dtypes[0]) == len(dtypes) else "generic"
    if on_gpu and device != "cuda":
        raise TypeError(
            f"the step or the learning rate lies on a GPU; needed parameters, gradients and state there in one dtype of float32, "
            f"float64, float16 and bfloat16, got {', '.join(map(str, dtypes))}"
        )
    return device


def _nth(n: int, like: Tree, found: Tree) -> Tree:
    """Return the n-th of the arrays at each leaf, in a tree of the structure of another."""
    return tree_map(lambda _, arrays: arrays[n], like, found)


def _zeros(p: Array) -> Array:
    return _array.namespace(p=p).zeros_like(p)


def _check_rate(rate: Rate) -> None:
    if not callable(rate) and not rate >= 0:
        raise ValueError(f"rate={rate}; needed at least 0")


def _in_unit(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value}; needed at least 0 and below 1")
