"""PyTorch's tensors on a GPU, lent to CUDA kernels as CuPy's arrays by DLPack, on PyTorch's current stream: nothing is copied.

Results are memory of CuPy's pool that PyTorch holds; a tensor used on another stream than the one it was made on needs the same
care as any other (`torch.Tensor.record_stream` does not know this memory: let the streams wait for one another).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ._array import Array
from ._lend import Loan

_DTYPES = ("float32", "float64", "float16", "bfloat16", "complex64", "complex128")


def loan(torch: Any, t: Array) -> Loan | None:
    """Return how tensors like `t` are lent; None without CuPy, and for dtypes and devices that have no kernels."""
    index, dtype = _gpu(torch, t), str(t.dtype).removeprefix("torch.")
    if index is None or dtype not in _DTYPES or find_spec("cupy") is None:
        return None
    return None if dtype == "bfloat16" and find_spec("ml_dtypes") is None else _of(torch, t.dtype, index)


@lru_cache(32)
def _of(torch: Any, dtype: Any, index: int) -> Loan:
    import cupy

    if dtype == torch.bfloat16:
        from ml_dtypes import bfloat16

        seen, bits = np.dtype(bfloat16), True  # as integers: DLPack's word for it is not everywhere known
    else:
        seen, bits = np.dtype(str(dtype).removeprefix("torch.")), False

    def lend(t: Array) -> Array:
        if not (bits and t.dtype == dtype):
            return cupy.from_dlpack(t.detach().resolve_conj().resolve_neg())
        return cupy.from_dlpack(t.detach().view(torch.int16)).view(seen)

    def give_back(a: Array) -> Array:
        if not (bits and a.dtype == seen):
            return torch.from_dlpack(a)
        return torch.from_dlpack(a.view(np.int16)).view(dtype)

    @contextmanager
    def during() -> Iterator[None]:
        address = _stream(torch, index)
        stream = cupy.cuda.ExternalStream(address, index) if address else cupy.cuda.Stream.null
        with cupy.cuda.Device(index), stream:
            yield

    return Loan(torch.Tensor, seen, lend, give_back, (cupy.ndarray,), during, on_gpu=True)


def _gpu(torch: Any, t: Array) -> int | None:
    """Return the number of the NVIDIA GPU that a tensor is on; None if it is not on one."""
    return None if t.device.type != "cuda" or torch.version.cuda is None else int(t.device.index)


def _stream(torch: Any, index: int) -> int:
    """Return the address of PyTorch's current stream on a GPU; 0 for the default one."""
    return int(torch.cuda.current_stream(index).cuda_stream)
