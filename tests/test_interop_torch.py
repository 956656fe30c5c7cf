"""numconv's functions under PyTorch's autograd: its own checks of first and second derivatives, and what it does itself."""

import doctest
import inspect
from pathlib import Path

import numpy as np
import pytest

import numconv

torch = pytest.importorskip("torch")
F = torch.nn.functional

from torch.autograd import gradcheck, gradgradcheck  # noqa: E402

from numconv.interop import torch as nct  # noqa: E402


def tensors(*shapes, dtype=torch.float64, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, dtype=dtype, generator=rng).requires_grad_() for shape in shapes]


SETTINGS = [
    ((2, 2, 7), (4, 2, 3), {"stride": 2, "padding": 1}),
    ((1, 4, 5, 4), (4, 2, 2, 3), {"groups": 2, "padding": "same", "dilation": (1, 2)}),
    ((3, 5, 6), (2, 3, 3, 2), {"stride": (2, 1), "padding": ((0, 1), (2, 0))}),
    ((1, 1, 4, 3, 3), (2, 1, 2, 2, 3), {"padding": "full", "stride": 2}),
    (
        (2, 4, 3, 2),
        (3, 2, 2, 3),
        {"padding": 1, "padding_mode": ("reflect", "circular"), "flip": True, "layout": "channels_last"},
    ),
]
BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
EACH = pytest.mark.parametrize(("x_shape", "w_shape", "settings"), SETTINGS, ids=["1d", "2d", "unbatched", "3d", "channels last"])


@BOTH
@EACH
def test_conv(x_shape, w_shape, settings, dtype):
    arguments = tensors(x_shape, w_shape, w_shape[:1], dtype=dtype)

    def f(x, w, b):
        return nct.conv(x, w, b, **settings)

    assert gradcheck(f, arguments)
    assert gradgradcheck(f, arguments, fast_mode=True)


@BOTH
@EACH
def test_conv_transpose(x_shape, w_shape, settings, dtype):
    y_shape = numconv.conv(np.zeros(x_shape), np.zeros(w_shape), **settings).shape
    bias = (w_shape[1] * settings.get("groups", 1),)
    end = len(x_shape) - ("layout" in settings)
    size = {} if isinstance(settings["padding"], str) else {"output_size": x_shape[end - (len(w_shape) - 2) : end]}
    arguments = tensors(y_shape, w_shape, bias, dtype=dtype)

    def f(x, w, b):
        return nct.conv_transpose(x, w, b, **settings, **size)

    assert gradcheck(f, arguments)
    assert gradgradcheck(f, arguments, fast_mode=True)


@EACH
def test_gradient_functions(x_shape, w_shape, settings):
    """The gradients are functions of PyTorch too, and so are theirs: the third derivative, by way of the second."""
    y_shape = numconv.conv(np.zeros(x_shape), np.zeros(w_shape), **settings).shape
    x, w, dy = tensors(x_shape, w_shape, y_shape)
    for f in (
        lambda dy, w: nct.conv_input_grad(dy, w, x_shape, **settings),
        lambda x, w: nct.conv_transpose_input_grad(x, w, y_shape, **settings),
    ):
        arguments = (dy, w) if f.__code__.co_varnames[0] == "dy" else (x, w)
        assert gradcheck(f, arguments)
        assert gradgradcheck(f, arguments, fast_mode=True)
    for f in (
        lambda x, dy: nct.conv_weight_grad(x, dy, w_shape, **settings),
        lambda x, dy: nct.conv_transpose_weight_grad(dy, x, w_shape, **settings),
    ):
        assert gradcheck(f, (x, dy))
        assert gradgradcheck(f, (x, dy), fast_mode=True)


def test_same_gradients_as_torch():
    """Value, gradients and a gradient penalty, beside PyTorch's own convolution, complex and real mixed with tanh."""
    for dtype in (torch.float64, torch.complex128):
        found = []
        for conv in (lambda x, w, b: nct.conv2d(x, w, b, stride=2, padding=1), lambda x, w, b: F.conv2d(x, w, b, 2, 1)):
            x, w, b = tensors((2, 3, 8, 7), (4, 3, 3, 3), (4,), dtype=dtype)
            y = conv(x, w, b)
            loss = y.tanh().abs().square().sum()
            dx, dw = torch.autograd.grad(loss, (x, w), create_graph=True)
            penalty = torch.autograd.grad(dx.abs().square().sum() + dw.abs().sum(), (x, w, b))
            found.append((y, loss, dx, dw, *penalty))
        for ours, theirs in zip(*found, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


TWICE = {
    "avg_pool": lambda x: nct.avg_pool(x, 2, stride=1, padding=1, count_include_pad=False),
    "adaptive_avg_pool": lambda x: nct.adaptive_avg_pool(x, 2),
    "global_avg_pool": lambda x: nct.global_avg_pool(x),
    "max_pool": lambda x: nct.max_pool(x, 2, stride=1),
    "max_pool over borders": lambda x: nct.max_pool(x, 3, stride=1, padding=1, padding_mode="reflect"),
    "unfold": lambda x: nct.unfold(x, 2, padding=1),
    "fold": lambda x: nct.fold(x.reshape(2, 3, 2, 3), 4, 2),
    "pad": lambda x: nct.pad(x, (1, 2), value=3.0),
    "max_pool unbatched": lambda x: nct.max_pool(x[0], (2, 1)),
    "max_pool_with_indices": lambda x: nct.max_pool_with_indices(x, 2)[0],
    "max_unpool": lambda x: nct.max_unpool(x, torch.zeros(2, 3, 3, 2, dtype=torch.int64) + CORNERS, 2, output_size=(6, 4)),
    "resize": lambda x: nct.resize(x, (4, 7), mode="linear"),
    "relu": nct.relu,
    "leaky_relu": lambda x: nct.leaky_relu(x, negative_slope=0.3),
}
CORNERS = 2 * torch.arange(2) + 8 * torch.arange(3)[:, None]


@pytest.mark.parametrize("name", TWICE)
def test_linear_functions(name):
    (x,) = tensors((2, 3, 3, 2))
    assert gradcheck(TWICE[name], [x])
    assert gradgradcheck(TWICE[name], [x])


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5)])
def test_linear(shape):
    arguments = tensors(shape, (4, 5), (4,))
    assert gradcheck(nct.linear, arguments)
    assert gradgradcheck(nct.linear, arguments)


LABELS = torch.tensor([0, 2, 1, 2])
ONCE = {
    "tanh": nct.tanh,
    "gelu": nct.gelu,
    "softmax": lambda x: nct.softmax(x, axis=1),
    "batch_norm": lambda x: nct.batch_norm(x, torch.arange(1.0, 4, dtype=x.dtype)),
    "layer_norm": nct.layer_norm,
    "cross_entropy_loss": lambda x: nct.cross_entropy_loss(x, LABELS),
    "mse_loss": lambda x: nct.mse_loss(x, torch.ones_like(x)),
    "nt_xent_loss": lambda x: nct.nt_xent_loss(x, x.flip(0)),
    "conv_per_sample_weight_grad": lambda x: nct.conv_per_sample_weight_grad(x[:, None], x[:, None, 1:], (1, 1, 2)),
}


@pytest.mark.parametrize("name", ONCE)
def test_differentiable_once(name):
    (x,) = tensors((4, 3))
    assert gradcheck(ONCE[name], [x])
    (dx,) = torch.autograd.grad(ONCE[name](x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        dx.sum().backward()


def test_all_array_arguments_of_a_norm():
    x, scale, shift = tensors((4, 3, 5), (3,), (3,))
    assert gradcheck(nct.batch_norm, [x, scale, shift])


def test_every_function_with_a_gradient_is_here():
    for name in numconv.__all__:
        if f"{name}_vjp" in numconv.__all__:
            f = getattr(nct, name)
            assert f is getattr(nct, name)
            assert name in dir(nct)
            assert str(inspect.signature(f)) == str(inspect.signature(getattr(numconv, name)))
            assert f.__doc__ == getattr(numconv, name).__doc__
    for name in ("nothing", "conv_output_shape", "_nothing"):
        with pytest.raises(AttributeError):
            getattr(nct, name)


def test_refusals():
    x, w, var = tensors((1, 2, 5), (3, 2, 2), (2,))
    with pytest.raises(TypeError, match=r"batch_norm has no gradient in var; needed var.detach\(\)"):
        nct.batch_norm(x, mean=torch.zeros_like(var), var=var)
    for match, args, kwargs in [
        ("missing a required argument: 'w'", (x,), {}),
        ("multiple values for argument 'w'", (x, w), {"w": w}),
        ("too many positional arguments", (x, w, None, 2), {}),
        ("unexpected keyword argument 'strid'", (x, w), {"strid": 2}),
    ]:
        with pytest.raises(TypeError, match=match):
            nct.conv(*args, **kwargs)
    with pytest.raises(TypeError, match="strid"):
        nct.conv_input_grad(x, w, (1, 2, 6), strid=1)
    with pytest.raises(ValueError, match="x has 2 channels"):
        nct.conv(x, w[:, :1])
    y = nct.conv(x, w)
    with torch.no_grad():
        w += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_per_sample_gradients_as_torch_func_gives_them():
    x, w, dy = (t.detach() for t in tensors((3, 4, 9, 8), (6, 2, 3, 3), (3, 6, 5, 4)))
    settings = {"stride": 2, "padding": 1, "groups": 2}

    def loss(w, x, dy):
        return (F.conv2d(x[None], w, **settings)[0] * dy).sum()

    expected = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(w, x, dy)
    torch.testing.assert_close(nct.conv_per_sample_weight_grad(x, dy, w.shape, **settings), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_sixteen_bits(dtype):
    """Gradients of 16 bits, within a rounding of those of the same numbers in double precision."""
    x, w, b = (t.detach().to(dtype).requires_grad_() for t in tensors((2, 3, 6, 5), (4, 3, 3, 2), (4,)))
    wide = [t.detach().double().requires_grad_() for t in (x, w, b)]
    for conv, args in ((nct.conv2d, (x, w, b)), (F.conv2d, wide)):
        (conv(*args) * 3).sum().backward()
    for narrow, t in zip((x, w, b), wide, strict=True):
        assert narrow.grad.dtype == dtype
        torch.testing.assert_close(narrow.grad.double(), t.grad, rtol=torch.finfo(dtype).eps, atol=1e-3)


def test_without_gradients_and_mixed_dtypes():
    """Without a tensor that requires grad nothing is recorded; what is promoted gets its gradient in its own dtype."""
    x, w = tensors((1, 2, 5), (3, 2, 2))
    with torch.no_grad():
        assert not nct.conv(x, w).requires_grad
    assert not nct.conv(x.detach(), w.detach()).requires_grad
    single = w.detach().float().requires_grad_()
    nct.conv(x, single).sum().backward()
    assert single.grad.dtype == torch.float32
    weights = w.detach() * (1 + 2j)
    (found,) = torch.autograd.grad(nct.conv(x, weights).abs().square().sum(), x)
    (expected,) = torch.autograd.grad(F.conv1d(x + 0j, weights).abs().square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_any_pair_of_functions():
    """`differentiable` needs nothing of numconv's but a pullback."""

    def power(x, n, out=None):
        return x**n

    def power_vjp(x, n, out=None):
        y = x**n
        return y, numconv._pullback.Pullback(y, x=lambda dy: dy * n * x ** (n - 1))

    (x,) = tensors((3,))
    assert gradcheck(lambda x: nct.differentiable(power, power_vjp)(x, 3), [x])
    with pytest.raises(TypeError, match="out cannot be given where gradients are recorded"):
        nct.differentiable(power, power_vjp)(x, 3, out=x.detach())


class Digits(torch.nn.Module):
    """Two convolutions by numconv between layers of PyTorch's own."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Parameter(torch.randn(4, 1, 3, 3) / 3)
        self.second = torch.nn.Parameter(torch.randn(8, 4, 3, 3) / 6)
        self.bias = torch.nn.Parameter(torch.zeros(8))
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu(nct.conv2d(x, self.first, padding="same"))
        x = nct.max_pool(x, 2)
        x = nct.relu(nct.conv2d(x, self.second, self.bias, padding="same"))
        return self.head(nct.global_avg_pool(x).flatten(1))


def test_a_module_trains():
    """Horizontal against vertical stripes, learned from 32 images: the loss falls to a tenth of that of guessing."""
    torch.manual_seed(0)
    labels = torch.arange(32) % 2
    stripes = torch.from_numpy(np.sin(np.arange(8)).astype(np.float32))
    images = torch.where(labels[:, None, None] == 1, stripes[:, None], stripes[None, :])
    images = (images + 0.3 * torch.randn(32, 8, 8))[:, None]
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = nct.cross_entropy_loss(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.4
    assert losses[-1] < 0.07


def test_examples_of_the_page_run():
    pytest.importorskip("jax")
    page = Path(__file__).parent.parent / "docs" / "interop.md"
    results = doctest.testfile(str(page), module_relative=False)
    assert results.failed == 0
    assert results.attempted > 20
