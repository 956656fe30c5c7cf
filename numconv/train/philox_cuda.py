"""Random words and numbers in CUDA kernels: made on the GPU in the dtype wanted, nothing read by the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .. import _cuda
from .._array import Array

SOURCE = Path(__file__).with_suffix(".cu")
Kind: TypeAlias = Literal["bits", "uniform", "normal"]

_PER_BLOCK = {"float": 4, "double": 2}  # numbers made of a block's four words


class Draws(NamedTuple):
    """What the kernels are told: how many samples, how many numbers of each, and whose (see `origin`)."""

    n: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody misses
    origin: tuple[int, int, int, int]


def origin(seed: int, stream: int, epoch: int) -> tuple[int, int, int, int]:
    """Return the key's two words, and the counter's last two."""
    return seed & 0xFFFFFFFF, seed >> 32, epoch, stream


def drawn(kind: Kind, samples: Array, count: int, at: tuple[int, int, int], dtype: Any) -> Array:
    """Return `count` numbers for each of `samples`, int64 on the device, at (seed, stream, epoch), as an array of dtype.

    Numbers of float64 are made of 53 bits each; those of the other dtypes are float32's, rounded once. Words are of uint32.
    """
    with _cuda.on(samples):
        out = _cuda.empty((samples.shape[0], count), dtype, what=f"random numbers ({kind})")
        program = _program(kind, "float32" if kind == "bits" else dtype)
        per_block = 4 if kind == "bits" else _PER_BLOCK[dict(program.defines)["Sum"]]  # type: ignore[index]
        grid, block = _cuda.spread(samples.shape[0] * -(-count // per_block))
        told = Draws(samples.shape[0], count, origin(*at))
        args = (_cuda.contiguous(samples), out, told)
        _cuda.launch(program=program, device=_cuda.device(samples), grid=grid, block=block, args=args)
    return out


def made_in(dtype: Any) -> np.dtype[Any] | None:
    """Return the dtype that numbers of another are made in, or None if it is none of the kernels'."""
    if str(dtype) not in _cuda.DTYPES:
        return None
    return np.dtype(np.float64 if str(dtype) == "float64" else np.float32)


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    yield _program("bits", "float32"), "sm_80"
    for dtype in _cuda.DTYPES:
        yield _program("uniform", dtype), "sm_80"
        yield _program("normal", dtype), "sm_80"


def _program(kind: Kind, dtype: Any) -> _cuda.Program:
    return _cuda.Program(SOURCE, f"draw_{kind}", _cuda.types(dtype))
