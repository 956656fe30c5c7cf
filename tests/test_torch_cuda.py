"""PyTorch's tensors on a GPU: lent to the CUDA kernels, on PyTorch's stream. Here they only say that they are on one."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import numconv
from numconv import _cuda, _torch_cuda

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.stand_in import Stream, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setattr(_torch_cuda, "find_spec", lambda name: name)
    monkeypatch.setattr(_torch_cuda, "_gpu", lambda torch, t: 0)
    monkeypatch.setattr(_torch_cuda, "_stream", lambda torch, index: 77)
    _torch_cuda._of.cache_clear()
    with stand_in() as cupy:
        yield cupy
    _torch_cuda._of.cache_clear()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_convolution(cupy, monkeypatch, dtype):
    streams, launch = [], _cuda.launch
    monkeypatch.setattr(_cuda, "launch", lambda **how: (streams.append(Stream.current[-1].ptr), launch(**how)))
    torch.manual_seed(0)
    x, w, b = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 3, 6, 5), (4, 3, 3, 2), (4,)))
    args = [t.to(getattr(torch, dtype)) for t in (x, w, b)]
    y, pullback = numconv.conv2d_vjp(*args, stride=(1, 2), padding=1, padding_mode=("reflect", "zeros"))
    found = (y, *pullback(y))
    assert streams
    assert set(streams) == {77}
    exact = [t.double().numpy() for t in args]
    y, pullback = numconv.conv2d_vjp(*exact, stride=(1, 2), padding=1, padding_mode=("reflect", "zeros"))
    eps = torch.finfo(args[0].dtype).eps
    for got, wanted in zip(found, (y, *pullback(found[0].double().numpy())), strict=True):
        assert type(got) is torch.Tensor
        assert got.dtype == args[0].dtype
        np.testing.assert_allclose(got.double().numpy(), wanted, rtol=0, atol=60 * eps * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: numconv.max_pool_vjp(x, 3, stride=2, padding=1),
        lambda x: numconv.max_pool_vjp(x, 17, stride=4, padding=8, padding_mode="reflect"),
        lambda x: numconv.avg_pool_vjp(x, 3, stride=2, padding=1, count_include_pad=False),
        lambda x: numconv.global_avg_pool_vjp(x),
        lambda x: numconv.adaptive_avg_pool_vjp(x, 4),
        lambda x: numconv.resize_vjp(x, (7, 19), mode="cubic"),
    ],
    ids=["max", "max_of_many", "avg", "global", "adaptive", "resize"],
)
def test_pooling_and_resizing(cupy, function, dtype):
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.integers(-40, 40, (2, 2, 12, 11)) / 8).to(getattr(torch, dtype))
    y, pullback = function(x)
    dx = pullback(y)
    assert _cuda.backend.launches
    assert type(y) is type(dx) is torch.Tensor
    assert y.dtype == dx.dtype == x.dtype
    expected, pullback = function(x.double().numpy())
    tolerance = 30 * torch.finfo(x.dtype).eps
    np.testing.assert_allclose(y.double().numpy(), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx.double().numpy(), pullback(y.double().numpy()), rtol=tolerance, atol=tolerance)


def test_memory_is_shared(cupy):
    t = torch.zeros(5)
    loan = _torch_cuda.loan(torch, t)
    loan.lend(t)[2] = 3.0
    assert t.tolist() == [0, 0, 3, 0, 0]
    a = cupy.asarray(np.zeros(4, np.float32))
    loan.give_back(a)[1] = 2.0
    assert a.get().tolist() == [0, 2, 0, 0]


def test_tensors_without_kernels(cupy):
    assert _torch_cuda.loan(torch, torch.zeros(2, dtype=torch.int32)) is None
    x, w = torch.ones((1, 1, 4), dtype=torch.int32), torch.ones((1, 1, 2), dtype=torch.int32)
    assert numconv.conv1d(x, w).dtype == torch.int32


def test_complex_numbers(cupy):
    x, w = torch.randn((2, 1, 5), dtype=torch.complex64), torch.randn((3, 1, 2), dtype=torch.complex64)
    torch.testing.assert_close(numconv.conv1d(x, w), torch.nn.functional.conv1d(x, w))


def test_tensors_on_two_devices():
    x, w = torch.ones((1, 1, 4)), torch.ones((1, 1, 2), device="meta")
    with pytest.raises(TypeError, match="one device, got x: cpu, w: meta"):
        numconv.conv1d(x, w)


def test_gradients_through_autograd(cupy):
    from numconv.interop import torch as differentiable

    x, w = torch.randn((1, 2, 5), requires_grad=True), torch.randn((3, 2, 2), requires_grad=True)
    differentiable.conv1d(x, w).square().sum().backward()
    expected = [t.detach().clone().requires_grad_() for t in (x, w)]
    torch.nn.functional.conv1d(*expected).square().sum().backward()
    for t, e in zip((x, w), expected, strict=True):
        torch.testing.assert_close(t.grad, e.grad)


def test_the_benchmarks_check(cupy, monkeypatch):
    """What `python -m bench.gpu` asks of real tensors."""
    root = Path(__file__).parents[1]
    for folder in (root, root / "bench"):
        monkeypatch.syspath_prepend(folder)
    lending = importlib.import_module("bench.gpu.lending")
    assert [lending.disagreement(torch, dtype, "cpu") for dtype in _cuda.DTYPES] == [""] * 4
    assert _cuda.backend.launches
    monkeypatch.setattr(lending, "WITHIN", dict.fromkeys(_cuda.DTYPES, 0.0))
    assert "needed 0e+00" in lending.disagreement(torch, "float32", "cpu")


def test_where_a_tensor_is():
    assert _torch_cuda._gpu(torch, torch.zeros(1)) is None
    assert _torch_cuda.loan(torch, torch.zeros(1)) is None
