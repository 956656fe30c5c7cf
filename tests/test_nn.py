"""Layers: gradients against central differences, shapes against `forward`, scale at the start, refusals."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv import nn
from numconv._tree import leaves, named_leaves, tree_map
from numconv.activation import silu_vjp

ACTIVATIONS = [nn.Relu(), nn.LeakyRelu(0.2), nn.Gelu(), nn.Silu(), nn.Sigmoid(), nn.Tanh()]

# (layer, shape of a sample)
CASES = [
    (nn.Conv(4, 3), (2, 7)),
    (nn.Conv(4, 3, stride=2, padding="same"), (2, 7, 6)),
    (nn.Conv(4, (1, 2, 3), padding=1, dilation=(2, 1, 1), groups=2), (2, 4, 5, 4)),
    (nn.Conv(3, 3, bias=False), (2, 5, 5)),
    (nn.ConvTranspose(3, 3, stride=2, padding=1, output_padding=1), (4, 5)),
    (nn.ConvTranspose(4, 4, stride=2, padding="same", output_size=(7, 8), groups=2), (2, 4, 4)),
    (nn.ConvTranspose(3, 2, stride=2, bias=False, start="glorot"), (2, 2, 3, 2)),
    (nn.Linear(5), (7,)),
    (nn.Linear(5, bias=False, start="glorot"), (7,)),
    (nn.Flatten(), (2, 3, 4)),
    (nn.Reshape((4, 6)), (2, 3, 4)),
    (nn.MaxPool(2), (3, 7, 6)),
    (nn.MaxPool(3, stride=2, padding=1), (3, 9)),
    (nn.AvgPool((2, 3), stride=(1, 2), padding="same"), (3, 7, 6)),
    (nn.GlobalAvgPool(), (3, 5, 6)),
    (nn.Upsample(2), (3, 4, 5)),
    (nn.Upsample((3, 2), mode="nearest"), (3, 4, 5)),
    (nn.GroupNorm(2), (4, 3, 5)),
    (nn.GroupNorm(3), (6,)),
    (nn.InstanceNorm(), (3, 7)),
    (nn.LayerNorm(), (3, 5)),
    (nn.LayerNorm(axes=1), (3, 5)),
    *((activation, (3, 4)) for activation in ACTIVATIONS),
    (nn.Residual(nn.Chain([nn.Conv(3, 3, padding="same"), nn.Silu()])), (3, 6, 6)),
    (nn.Residual(nn.Conv(4, 3, 2, padding=1), nn.Conv(4, 1, 2)), (3, 6, 6)),
    (
        nn.Chain([nn.Conv(4, 3, stride=2, padding="same"), nn.Silu(), nn.MaxPool(2), nn.Flatten(), nn.Linear(3), nn.Tanh()]),
        (2, 9, 9),
    ),
]


def normals_like(rng, tree):
    return tree_map(lambda a: rng.standard_normal(a.shape), tree)


def inner(a, b):
    return sum(float(np.sum(x * y)) for x, y in zip(leaves(a), leaves(b), strict=True))


def check_directional_derivative(f, gradient, at, rng):
    """Compare a gradient along a random direction with a central difference of f in float64, where f is smooth around `at`."""
    direction = normals_like(rng, at)
    h = 1e-5  # near the cube root of the rounding unit: errors of both kinds are about 1e-10 of f
    above, below = (f(tree_map(lambda a, d, s=s: a + s * h * d, at, direction)) for s in (1, -1))
    difference = (above - below) / (2 * h)
    slope = inner(gradient, direction)
    scale = abs(above) + abs(slope) + np.sqrt(inner(gradient, gradient) * inner(direction, direction))
    assert abs(difference - slope) < 1e-7 * scale, (difference, slope)
    assert inner(gradient, gradient) > 0


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=lambda value: re.sub(r"\W+", "-", str(value))[:60])
def test_gradients_are_directional_derivatives_and_shapes_are_foretold(layer, shape):
    rng = np.random.default_rng(3)
    params, out = layer.init(rng, shape)
    params, x = normals_like(rng, params), rng.standard_normal((2, *shape))
    y, pullback = layer.forward(params, x)
    assert y.shape == (2, *out)
    dy = rng.standard_normal(y.shape)
    dparams, dx = pullback(dy)
    assert [(name, a.shape) for name, a in named_leaves(dparams)] == [(name, a.shape) for name, a in named_leaves(params)]
    check_directional_derivative(lambda at: inner(layer.forward(*at)[0], dy), (dparams, dx), (params, x), rng)


@pytest.mark.parametrize(("layer", "shape"), CASES, ids=lambda value: re.sub(r"\W+", "-", str(value))[:60])
def test_without_the_input_gradient_the_others_are_the_same(layer, shape):
    rng = np.random.default_rng(4)
    params, out = layer.init(rng, shape)
    _, pullback = layer.forward(params, rng.standard_normal((2, *shape), np.float32))
    dy = rng.standard_normal((2, *out), np.float32)
    both, alone = pullback(dy), pullback(dy, need_input=False)
    assert alone[1] is None
    assert both[1].dtype == np.float32
    for a, b in zip(leaves(both[0]), leaves(alone[0]), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def test_silu_layers_are_silu_to_the_rounding_unit_of_their_input():
    for dtype in (np.float32, np.float64):
        x = np.linspace(-200, 200, 4001, dtype=dtype)
        y, pullback = nn.Silu().forward((), x)
        reference, slope = silu_vjp(x)
        bound = 3 * np.finfo(dtype).eps * np.maximum(1, np.abs(x))  # of tanh, of two more roundings, times x
        assert np.all(np.abs(y - reference) <= bound)
        assert np.all(np.abs(pullback(np.ones_like(x))[1] - slope(np.ones_like(x))) <= bound)


class Spy:
    """A layer that says what was asked of its pullback."""

    def __init__(self, params, asked):
        self.params, self.asked = params, asked

    def init(self, rng, shape):
        return self.params, shape

    def forward(self, params, x):
        def back(dy, need_input=True):
            self.asked.append(need_input)
            return params, dy if need_input else None

        return x, back


def test_a_chain_asks_for_no_gradient_that_nothing_needs():
    asked = []
    free, paid = (), {"w": np.zeros(1)}
    chain = nn.Chain([Spy(free, asked), Spy(paid, asked), Spy(free, asked), Spy(paid, asked)])
    params, _ = chain.init(np.random.default_rng(0), (1,))
    _, pullback = chain.forward(params, np.zeros((1, 1)))
    grads, dx = pullback(np.ones((1, 1)), need_input=False)
    assert asked == [True, True, False]  # from the last layer up; the first, without parameters, is not asked at all
    assert dx is None
    assert [len(g) for g in grads] == [0, 1, 0, 1]
    asked.clear()
    _, dx = pullback(np.ones((1, 1)))
    assert asked == [True] * 4
    assert dx.shape == (1, 1)


RECTIFIED = [
    (nn.Conv(5, 3, padding=1), (3, 9, 8)),  # direct
    (nn.Conv(2, 8, padding="same", bias=False), (1, 40, 40)),  # by Fourier transforms
    (nn.Conv(16, 3, padding=1), (24, 14, 14)),  # by Winograd's method
    (nn.ConvTranspose(16, 4, stride=2, padding=1), (24, 7, 7)),
    (nn.ConvTranspose(2, 3, stride=2, bias=False), (1, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), RECTIFIED, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_chain_rectifies_where_convolution_stores(layer, shape, dtype):
    """The same bits, gradients too, as of one layer after the other."""
    rng = np.random.default_rng(0)
    params, out = layer.init(rng, shape)
    params = tree_map(lambda p: (p + rng.standard_normal(p.shape) / 4).astype(dtype), params)
    x, dy = (rng.standard_normal((3, *size)).astype(dtype) for size in (shape, out))
    y, pullback = nn.Chain([layer, nn.Relu()]).forward((params, ()), x)
    before, of_layer = layer.forward(params, x)
    after, of_relu = nn.Relu().forward((), before)
    assert (after == 0).any()
    np.testing.assert_array_equal(y, after)
    (dparams, _), dx = pullback(dy)
    expected, expected_dx = of_layer(of_relu(dy)[1])
    for got, wanted in zip(leaves((dparams, dx)), leaves((expected, expected_dx)), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_rectified_nan_stays_nan_and_so_does_its_gradient():
    layer, x = nn.Conv(16, 3, padding=1), np.zeros((1, 16, 12, 12), np.float32)
    params, _ = layer.init(np.random.default_rng(0), x.shape[1:])
    x[0, 3, 5, 6] = np.nan
    y, pullback = nn.Chain([layer, nn.Relu()]).forward((params, ()), x)
    assert np.isnan(y[0, :, 4:7, 5:8]).all()
    assert np.isnan(pullback(np.ones_like(y))[0][0]["w"]).any()


def test_an_empty_chain_is_the_identity():
    x = np.ones((2, 3))
    params, shape = nn.Chain([]).init(np.random.default_rng(0), (3,))
    y, pullback = nn.Chain([]).forward(params, x)
    assert shape == (3,)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(pullback(x)[1], x)


@given(
    size=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    groups=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_init_foretells_the_shape_of_any_convolution(size, kernel, stride, groups, seed):
    rng = np.random.default_rng(seed)
    shape = (2 * groups, *size)
    for layer in (
        nn.Conv(2 * groups, kernel, stride, padding="same", groups=groups),
        nn.ConvTranspose(2 * groups, kernel, stride, padding="same", groups=groups),
    ):
        params, out = layer.init(rng, shape)
        assert layer.forward(params, np.zeros((1, *shape), np.float32))[0].shape == (1, *out)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv(64, 3, padding="same"), (64, 16, 16)),
        (nn.Conv(64, 3, stride=2, padding="same", groups=4), (64, 16, 16)),
        (nn.ConvTranspose(64, 4, stride=2, padding="same"), (64, 8, 8)),
        (nn.ConvTranspose(64, 4, stride=2, padding="same", groups=4), (64, 8, 8)),
        (nn.Linear(512), (512,)),
    ],
    ids=str,
)
def test_he_weights_keep_the_scale_of_rectified_inputs(layer, shape):
    rng = np.random.default_rng(5)
    params, _ = layer.init(rng, shape)
    # E[relu(n)^2] = 1/2 for normal n, and weights of variance 2 / fan_in give it back: outputs of variance 1.
    y, _ = layer.forward(params, np.maximum(rng.standard_normal((16, *shape), np.float32), 0))
    inside = y if y.ndim == 2 else y[:, :, 2:-2, 2:-2]
    assert 0.8 < float(np.var(inside)) < 1.2
    assert all(a.dtype == np.float32 for a in leaves(params))
    assert not np.any(params["b"])


@pytest.mark.parametrize("layer", [nn.GroupNorm(2), nn.InstanceNorm(), nn.LayerNorm()], ids=str)
def test_normalisation_begins_neutral_and_looks_at_each_sample_alone(layer):
    rng = np.random.default_rng(0)
    params, _ = layer.init(rng, (4, 50))
    assert sorted(params) == ["scale", "shift"]
    assert all(a.dtype == np.float32 for a in leaves(params))
    x = 3 + 2 * rng.standard_normal((5, 4, 50), np.float32)
    y, _ = layer.forward(params, x)
    assert abs(float(y.mean())) < 1e-5
    assert abs(float(y.var()) - 1) < 1e-4
    np.testing.assert_array_equal(layer.forward(params, x[2:3])[0], y[2:3])


def test_glorot_weights_have_the_variance_of_the_paper():
    w = nn.Linear(300, start="glorot").init(np.random.default_rng(6), (200,))[0]["w"]
    # 60000 normal draws: the variance is off by sqrt(2 / 60000) = 0.6 %, at one standard deviation
    assert float(np.var(w)) == pytest.approx(2 / 500, rel=0.03)


def test_the_same_generator_makes_the_same_parameters():
    layer, shape = CASES[-1]
    one, two, other = (layer.init(np.random.default_rng(seed), shape)[0] for seed in (0, 0, 1))
    for a, b in zip(leaves(one), leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(leaves(one), leaves(other), strict=True))


def test_parameters_have_names_by_their_place():
    layer, shape = CASES[-1]
    params, _ = layer.init(np.random.default_rng(0), shape)
    assert [name for name, _ in named_leaves(params)] == ["0.w", "0.b", "4.w", "4.b"]
    assert nn.count_parameters(params) == 4 * 2 * 9 + 4 + 3 * 16 + 3


@pytest.mark.parametrize(
    ("layer", "shape", "text"),
    [
        (nn.Conv(4, 9), (1, 8, 8), "w spans (9, 9) samples"),
        (nn.Conv(4, 3), (8,), "samples have shape (8,); needed (channels, *size)"),
        (nn.Conv(0, 3), (1, 8), "channels=0; needed at least 1"),
        (nn.Conv(4, 3, groups=3), (4, 8), "4 channels in groups=3; needed a multiple of groups"),
        (nn.Conv(4, (3, 3)), (1, 8), "kernel=(3, 3); needed one int, or 1 of them"),
        (nn.ConvTranspose(4, 3, 2, output_size=99), (1, 8), "output_size=(99,) cannot come from x of size (8,)"),
        (nn.Linear(3), (1, 8, 8), "needed vectors, (features,): put Flatten before Linear"),
        (nn.Linear(0), (8,), "features=0; needed at least 1"),
        (nn.Linear(3, start="zeros"), (8,), "start='zeros'; needed 'he' or 'glorot'"),
        (nn.Reshape((3, 5)), (2, 8), "samples have shape (2, 8), 16 numbers; needed 15 for (3, 5)"),
        (nn.MaxPool(9), (1, 8), "window spans (9,) samples"),
        (nn.GlobalAvgPool(), (8,), "samples have shape (8,); needed (channels, *size)"),
        (nn.Upsample(0), (1, 8), "factor=0; needed one int"),
        (nn.GroupNorm(3), (4, 8), "4 channels in groups=3; needed a divisor of them"),
        (nn.InstanceNorm(), (8,), "samples have shape (8,); needed (channels, *size)"),
        (nn.LayerNorm(axes=3), (4, 8), "axes=3, but samples have shape (4, 8); needed 1 to 2"),
        (nn.Residual(nn.Conv(4, 3)), (4, 8), "the inner layers turn (4, 8) into (4, 6), the shortcut into (4, 8); needed one"),
        (nn.Chain([nn.Flatten(), nn.Conv(4, 3)]), (1, 8, 8), "layer 1, Conv(channels=4, kernel=3"),
    ],
    ids=str,
)
def test_refusals_say_what_was_needed(layer, shape, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        layer.init(np.random.default_rng(0), shape)
