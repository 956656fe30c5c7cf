"""Arrays of other libraries and dtypes, lent to the kernels as NumPy's or, on a GPU, CuPy's, and their results given back.

Nothing is copied where the library lets memory be seen: PyTorch's tensors and JAX's arrays of float32 and float64. On the CPU,
numbers of 16 bits are widened to float32 and rounded once, on the way back. What a kernel keeps for later, such as indices, stays
as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ._array import Array, device, library, narrow

_KERNELS = (np.dtype("float32"), np.dtype("float64"))


class Loan(NamedTuple):
    """How arrays of one library and dtype become NumPy's or CuPy's (`dtype`), and results theirs again."""

    kind: type
    dtype: Any
    lend: Callable[[Array], Array]
    give_back: Callable[[Array], Array]
    seen: tuple[type, ...] = (np.ndarray, np.generic)  # what results are before they are given back
    during: Callable[[], AbstractContextManager[Any]] = nullcontext  # what holds while kernels are called
    on_gpu: bool = False


class Lent:
    """A drawer whose functions take and return arrays of another library or dtype, at any depth of tuples and functions."""

    def __init__(self, drawer: Any, loan: Loan) -> None:
        self._drawer, self._loan = drawer, loan

    def __getattr__(self, name: str) -> Any:
        function = self.__dict__[name] = self.function(getattr(self._drawer, name))
        return function

    def explain(self, contraction: Any, g: Any, dtype: Any) -> Any:
        """Say what a call would do."""
        return self._drawer.explain(contraction, g, self._loan.dtype)

    def function(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Return `f` for arrays of that library or dtype."""

        def lent(*args: Any, **kwargs: Any) -> Any:
            with self._loan.during():
                return self._back(f(*map(self._in, args), **{name: self._in(a) for name, a in kwargs.items()}))

        return lent

    def _in(self, a: Any) -> Any:
        if type(a) is tuple:  # a named one is the drawer's own
            return tuple(map(self._in, a))
        return self._loan.lend(a) if isinstance(a, self._loan.kind) else a

    def _back(self, result: Any) -> Any:
        if isinstance(result, self._loan.seen):
            return self._loan.give_back(result)
        if type(result) is tuple:  # a named one is the drawer's own
            return tuple(map(self._back, result))
        return self.function(result) if callable(result) else result


def kernels(xp: ModuleType, x: Array, cpu: str, generic: Any, cuda: str | None = None) -> Any:
    """Return the drawer of kernels, a module imported at first use, if arrays like `x` can be lent to it, or `generic`.

    It is the module named `cpu` for Numba's kernels, and the one named `cuda`, if there is one, for a GPU's.
    """
    if type(x) is np.ndarray and x.dtype in _KERNELS:
        return _module(cpu)
    if library(xp) == "cupy":
        if cuda is not None and device(xp, x.dtype) == "cuda":
            return _module(cuda)
        kind: Any = type(x)
        return lent(generic, _widening(kind, x.dtype)) if narrow(x.dtype) else generic
    found = loan(xp, x)
    if found is not None and found.on_gpu:
        return generic if cuda is None or found.dtype.kind == "c" else lent(_module(cuda), found)
    return generic if found is None or found.dtype not in _KERNELS else lent(_module(cpu), found)


def loan(xp: ModuleType, x: Array) -> Loan | None:
    """Return how arrays like `x` are lent; None for NumPy's own, for other devices, and for libraries that share no memory."""
    name = library(xp)
    if name == "numpy":
        return _of_numpy(x.dtype) if narrow(x.dtype) else None
    if name == "torch":
        from . import _torch_cuda

        return _torch_cuda.loan(xp, x) or (_of_torch(xp, x.dtype) if x.device.type == "cpu" else None)
    if name == "jax":
        return None if is_traced(x) or any(d.platform != "cpu" for d in x.devices()) else _of_jax(xp, x.dtype)
    return None


@cache
def _module(name: str) -> Any:
    return import_module(name)


def is_traced(x: Array) -> bool:
    """Say whether an array of JAX stands for one that is not known yet, as under `jax.jit`."""
    import jax

    return isinstance(x, jax.core.Tracer)


def native(
    xp: ModuleType, x: Array, cpu: Callable[..., Any], cuda: Callable[..., Any] | None = None
) -> Callable[..., Any] | None:
    """Return a function for arrays like `x`; None where they cannot be lent to one.

    It is `cpu`, of NumPy's arrays of float32 or float64, or `cuda`, if there is one, of CuPy's.
    """
    if type(x) is np.ndarray and x.dtype in _KERNELS:
        return cpu
    if cuda is not None and (function := on_gpu(xp, x, cuda)) is not None:
        return function
    found = loan(xp, x)
    return None if found is None or found.on_gpu or found.dtype not in _KERNELS else Lent(None, found).function(cpu)


def is_on_gpu(xp: ModuleType, x: Array) -> bool:
    """Say whether there are CUDA kernels for arrays like `x`."""
    return on_gpu(xp, x, is_on_gpu) is not None


def on_gpu(xp: ModuleType, x: Array, cuda: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return `cuda`, a function of CuPy's arrays that kernels take, for arrays like `x`; None where they cannot be lent to it."""
    if library(xp) == "cupy":
        return cuda if device(xp, x.dtype) == "cuda" else None
    found = loan(xp, x)
    return Lent(None, found).function(cuda) if found is not None and found.on_gpu and found.dtype.kind != "c" else None


@lru_cache(128)
def lent(drawer: Hashable, found: Loan) -> Any:
    """Return a drawer for arrays that are lent like this."""
    return Lent(drawer, found)


@lru_cache(16)
def _of_numpy(dtype: Any) -> Loan:
    def lend(a: Array) -> Array:
        return _widened(a) if a.dtype == dtype else a

    def give_back(a: Array) -> Array:
        a = np.asarray(a)
        return _narrowed(a, dtype) if a.dtype == np.float32 else a

    return Loan(np.ndarray, np.dtype(np.float32), lend, give_back)


def _widened(a: Array) -> Array:
    """Return NumPy's float16, or a bfloat16 that another library gave it, in float32."""
    if a.dtype != np.float16:
        return a.astype(np.float32)
    from . import _halves

    return _halves.widened(a)


def _narrowed(a: Array, dtype: Any) -> Array:
    if dtype != np.float16:
        return a.astype(dtype)
    from . import _halves

    return _halves.narrowed(a)


@lru_cache(16)
def _widening(kind: type, dtype: Any) -> Loan:
    """Return how CuPy's arrays of 16 bits are computed with in float32, where there is no kernel for them."""
    return Loan(
        kind,
        np.dtype(np.float32),
        lambda a: a.astype(np.float32) if a.dtype == dtype else a,
        lambda a: a.astype(dtype) if a.dtype == np.float32 else a,
        (kind,),
    )


@lru_cache(32)
def _of_torch(torch: Any, dtype: Any) -> Loan:
    small = narrow(dtype)

    def lend(t: Array) -> Array:
        t = t.detach()
        t = t.to(torch.float32) if small and t.dtype == dtype else t.resolve_conj().resolve_neg()
        return t.numpy()

    def give_back(a: Array) -> Array:
        t = torch.from_numpy(np.asarray(a))
        return t.to(dtype) if small and t.dtype == torch.float32 else t

    seen = np.dtype(np.float32) if small else lend(torch.empty(0, dtype=dtype)).dtype
    return Loan(torch.Tensor, seen, lend, give_back)


@lru_cache(32)
def _of_jax(jnp: Any, dtype: Any) -> Loan:
    import jax

    small = narrow(dtype)

    def lend(x: Array) -> Array:
        a = np.asarray(x)
        return _widened(a) if small and a.dtype == dtype else a

    def give_back(a: Array) -> Array:
        a = np.asarray(a)
        x = jnp.from_dlpack(a) if a.size and a.flags.c_contiguous else jnp.asarray(a)
        return x.astype(dtype) if small and x.dtype == np.float32 else x

    return Loan(jax.Array, np.dtype(np.float32) if small else np.dtype(dtype), lend, give_back)
