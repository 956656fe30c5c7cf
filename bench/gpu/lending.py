"""PyTorch's own tensors on the GPU: the numbers of the kernels they are lent to, on PyTorch's default stream and on another."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from numconv._cuda import DTYPES

from .checks import WITHIN
from .environment import torch_on_gpu


def run(cupy: Any, *, small: bool) -> dict[str, Any]:
    """Convolve tensors and take gradients, by dtype and stream."""
    if small or (torch := torch_on_gpu()) is None:
        return {"said": "no PyTorch with CUDA: not run", "wrong": {}}
    wrong, streams = {}, {"the default stream": nullcontext(), "another stream": torch.cuda.stream(torch.cuda.Stream())}
    for name, stream in streams.items():
        for dtype in DTYPES:
            try:
                with stream:
                    problem = disagreement(torch, dtype, "cuda")
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem:
                wrong[f"tensors of {dtype} on {name}"] = problem
    return {"said": f"{len(DTYPES) * len(streams)} convolutions with their gradients", "wrong": wrong}


def disagreement(torch: Any, dtype: str, device: str) -> str:
    """Say what is wrong with a convolution of tensors and its gradients, held to PyTorch's own in float64 on the CPU."""
    import numconv

    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (2, 16, 9, 8), "w": (24, 16, 3, 3), "b": (24,)}
    given = [torch.randn(s, generator=generator, dtype=torch.float64).to(getattr(torch, dtype)) for s in shapes.values()]
    y, pullback = numconv.conv2d_vjp(*(t.to(device) for t in given), padding=1)
    found = (y, *pullback(y))
    exact = [t.double().requires_grad_() for t in given]
    expected = torch.nn.functional.conv2d(*exact, padding=1)
    expected.backward(y.detach().double().cpu())
    for name, a, e in zip(("y", *shapes), found, (expected.detach(), *(t.grad for t in exact)), strict=True):
        if not (isinstance(a, torch.Tensor) and a.device.type == device and a.dtype == getattr(torch, dtype)):
            return f"{name} is {type(a).__name__} of {a.dtype} on {a.device}"
        error = float((a.double().cpu() - e).norm() / e.norm())
        if not error <= WITHIN[dtype]:
            return f"{name}: error {error:.1e}, needed {WITHIN[dtype]:.0e}"
    return ""
