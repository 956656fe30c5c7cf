"""Losses of single elements against their definitions, element by element, and against other people's code."""

from __future__ import annotations

import doctest
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from numconv import loss
from numconv.loss import classification, contrastive, pairs, regression, variational

WORDS = ("mean", "sum", "none", "batchmean")
shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)
dtypes = st.sampled_from([np.float32, np.float64])
words = st.sampled_from(WORDS)
seeds = st.integers(0, 2**32 - 1)


def by_hand(f, *arrays):
    """The definition, one element at a time in float64."""
    terms = [f(*map(float, row)) for row in zip(*(a.ravel() for a in arrays), strict=True)]
    return np.array(terms).reshape(arrays[0].shape)


def reduced(terms, word):
    total = math.fsum(terms.ravel())
    return {"none": terms, "sum": total, "mean": total / terms.size, "batchmean": total / terms.shape[0]}[word]


def within(got, terms, word, ulps, scale):
    """Each term is off by some ulps of `scale` (the largest number on the way to it), and a sum of n by n times that."""
    eps = float(np.finfo(got.dtype).eps)
    n = {"none": 1, "sum": terms.size, "mean": 1, "batchmean": terms.size / terms.shape[0]}[word]
    np.testing.assert_allclose(got.astype(np.float64), reduced(terms, word), rtol=0, atol=(ulps + terms.size) * eps * scale * n)


def huber(delta):
    return lambda p, t: 0.5 * (p - t) ** 2 if abs(p - t) <= delta else delta * (abs(p - t) - 0.5 * delta)


def entropy(x, t):
    return -t * scipy.special.log_expit(x) - (1 - t) * scipy.special.log_expit(-x)


@settings(max_examples=60, deadline=None)
@given(shapes, dtypes, words, seeds, st.sampled_from(["mse", "l1", "huber", "bce"]))
def test_elementwise_losses_are_their_definitions(shape, dtype, word, seed, which):
    rng = np.random.default_rng(seed)
    p = (3 * rng.standard_normal(shape)).astype(dtype)
    t = (rng.uniform(0, 1, shape) if which == "bce" else rng.standard_normal(shape)).astype(dtype)
    f, oracle = {
        "mse": (loss.mse_loss, lambda p, t: (p - t) ** 2),
        "l1": (loss.l1_loss, lambda p, t: abs(p - t)),
        "huber": (lambda p, t, **k: loss.huber_loss(p, t, delta=0.75, **k), huber(0.75)),
        "bce": (loss.bce_with_logits_loss, entropy),
    }[which]
    terms = by_hand(oracle, p, t)
    got = f(p, t, reduction=word)
    assert got.dtype == dtype
    scale = (1 + float(np.max(np.abs(p))) + float(np.max(np.abs(t)))) ** (2 if which == "mse" else 1)
    within(got, terms, word, 8, scale)


@settings(max_examples=40, deadline=None)
@given(hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), dtypes, words, seeds, st.sampled_from([0.0, 0.1, 1.0]))
def test_cross_entropy_is_its_definition(shape, dtype, word, seed, smoothing):
    rng = np.random.default_rng(seed)
    logits = (4 * rng.standard_normal(shape)).astype(dtype)
    n, classes, *rest = shape
    labels = rng.integers(0, classes, (n, *rest)).astype(rng.choice(["uint8", "int32", "int64"]))
    logp = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    terms = np.empty(labels.shape)
    for i in itertools.product(*map(range, labels.shape)):
        q = np.full(classes, smoothing / classes)
        q[labels[i]] += 1 - smoothing
        terms[i] = -np.dot(q, logp[(i[0], slice(None), *i[1:])])
    got = loss.cross_entropy_loss(logits, labels, label_smoothing=smoothing, reduction=word)
    assert got.dtype == dtype
    within(got, terms, word, 8 + classes, 1 + 2 * float(np.max(np.abs(logits))))


@settings(max_examples=40, deadline=None)
@given(shapes, dtypes, words, seeds)
def test_gaussian_nll_is_scipys_logpdf(shape, dtype, word, seed):
    rng = np.random.default_rng(seed)
    mean, target, logvar = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    sigma = np.exp(logvar.astype(np.float64) / 2)
    terms = -scipy.stats.norm.logpdf(target.astype(np.float64), mean.astype(np.float64), sigma)
    within(loss.gaussian_nll_loss(mean, target, logvar, reduction=word), terms, word, 16, 2 + float(np.max(terms)))


@settings(max_examples=40, deadline=None)
@given(shapes, dtypes, words, seeds)
def test_kl_is_the_expected_log_ratio(shape, dtype, word, seed):
    # The log ratio of two Gaussians is a quadratic, of which Gauss-Hermite quadrature gives the expectation exactly.
    rng = np.random.default_rng(seed)
    mean, logvar = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)

    def divergence(m, v):
        x = m + math.exp(v / 2) * nodes
        ratio = scipy.stats.norm.logpdf(x, m, math.exp(v / 2)) - scipy.stats.norm.logpdf(x)
        return float(np.sum(weights * ratio) / np.sum(weights))

    terms = by_hand(divergence, mean, logvar)
    within(loss.gaussian_kl_loss(mean, logvar, reduction=word), terms, word, 16, 2 + float(np.max(terms)))


def test_torch_agrees_value_and_gradient():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((4, 3, 5)), rng.uniform(0, 1, (4, 3, 5))
    labels = rng.integers(0, 3, (4, 5))
    v = rng.standard_normal((4, 3, 5))

    def nll(m, t, v, reduction):
        return F.gaussian_nll_loss(m, t, v.exp(), full=True, eps=0, reduction=reduction)

    def mix(x, labels, reduction):
        return F.cross_entropy(x, labels, label_smoothing=0.2, reduction=reduction)

    def smooth(x, labels, reduction):
        return loss.cross_entropy_loss_vjp(x, labels, label_smoothing=0.2, reduction=reduction)

    for ours, theirs, args in [
        (loss.mse_loss_vjp, F.mse_loss, (x, t)),
        (loss.l1_loss_vjp, F.l1_loss, (x, t)),
        (loss.huber_loss_vjp, F.huber_loss, (x, t)),
        (loss.bce_with_logits_loss_vjp, F.binary_cross_entropy_with_logits, (x, t)),
        (loss.cross_entropy_loss_vjp, F.cross_entropy, (x, labels)),
        (smooth, mix, (x, labels)),
        (loss.gaussian_nll_loss_vjp, nll, (x, t, v)),
    ]:
        for word in ("mean", "sum", "none"):
            tensors = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in args]
            value = theirs(*tensors, reduction=word)
            dy = rng.standard_normal(tuple(value.shape))
            value.backward(torch.tensor(dy))
            got, pullback = ours(*args, reduction=word)
            # 60 terms of size up to 30 in float64
            np.testing.assert_allclose(got, value.detach().numpy(), rtol=0, atol=60 * 30 * 2.3e-16)
            gradients = pullback(np.asarray(dy))
            gradients = gradients if isinstance(gradients, tuple) else (gradients,)
            for g, tensor in zip(gradients, [a for a in tensors if a.requires_grad], strict=True):
                np.testing.assert_allclose(g, tensor.grad.numpy(), rtol=0, atol=30 * 30 * 2.3e-16)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_keep_value_and_gradient(dtype):
    x = np.array([1e4, -1e4, 1e4, -1e4, 0.0, 30.0], dtype)
    t = np.array([1.0, 0.0, 0.0, 1.0, 0.5, 1.0], dtype)
    value, pullback = loss.bce_with_logits_loss_vjp(x, t, reduction="none")
    assert value[:5].tolist() == [0.0, 0.0, 1e4, 1e4, pytest.approx(math.log(2), rel=1e-7)]
    slope = pullback(np.ones_like(x), wrt="logits")
    assert slope[:5].tolist() == [0.0, 0.0, 1.0, -1.0, 0.0]
    assert slope[5] == pytest.approx(-math.exp(-30), rel=1e-5, abs=0)  # sigma(30) - 1 would be 0 in float32

    rows = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 1e4, -1e4]], dtype)
    value, pullback = loss.cross_entropy_loss_vjp(rows, np.array([1, 0, 0]), reduction="none")
    np.testing.assert_allclose(value, [2e4, math.log(3), math.log(2)], rtol=4 * np.finfo(dtype).eps)
    expected = [[1, -1, 0], [-2 / 3, 1 / 3, 1 / 3], [-0.5, 0.5, 0]]
    np.testing.assert_allclose(pullback(np.ones(3, dtype)), expected, rtol=0, atol=4 * np.finfo(dtype).eps)


def test_a_class_ruled_out_by_minus_infinity():
    logits = np.array([[0.0, -np.inf, 0.0]])
    value, pullback = loss.cross_entropy_loss_vjp(logits, np.array([2]))
    assert value == pytest.approx(math.log(2), rel=1e-15)
    assert pullback().tolist() == [[0.5, 0.0, -0.5]]


def test_huber_of_huge_differences_squares_nothing():
    p = np.array([1e30, -1e30], np.float32)
    value, pullback = loss.huber_loss_vjp(p, np.zeros_like(p), delta=2.0, reduction="none")
    np.testing.assert_allclose(value, [2e30, 2e30], rtol=1e-6)
    assert pullback(np.ones_like(p), wrt="prediction").tolist() == [2.0, -2.0]


def test_l1_has_no_slope_at_zero():
    _, pullback = loss.l1_loss_vjp(np.zeros(3), np.zeros(3))
    assert not np.any(pullback(wrt="prediction"))


@pytest.mark.parametrize("logvar", [-1e4, -600.0, -150.0, 0.0, 150.0, 1e4])
def test_extreme_variances_keep_value_and_gradient(logvar):
    v = np.full((1, 2), logvar, np.float32)
    same = np.ones((1, 2), np.float32)
    value, pullback = loss.gaussian_nll_loss_vjp(same, same, v)
    assert value == pytest.approx(math.log(2 * math.pi) + logvar, rel=1e-6)
    dmean, dtarget, dlogvar = pullback()
    assert not np.any(dmean)
    assert not np.any(dtarget)
    assert np.all(dlogvar == 0.5)
    z, pullback = loss.reparameterize_vjp(same, v, np.zeros_like(same))
    assert np.all(z == 1)
    assert not np.any(pullback(same, wrt="logvar"))
    if logvar <= 0:  # e^logvar is finite, and so is the divergence
        value, pullback = loss.gaussian_kl_loss_vjp(np.zeros_like(same), v)
        assert value == pytest.approx(-logvar + math.expm1(logvar), rel=1e-6)
        np.testing.assert_allclose(pullback(wrt="logvar"), 0.5 * math.expm1(logvar), rtol=1e-6)


def test_a_small_difference_over_a_tiny_variance_is_a_finite_loss():
    # (1e-30)^2 and e^150 are both out of float32, their product is 1e-60 * 1.4e65
    mean, target = np.zeros((1, 1), np.float32), np.full((1, 1), 1e-30, np.float32)
    v = np.full((1, 1), -150.0, np.float32)
    value, pullback = loss.gaussian_nll_loss_vjp(mean, target, v)
    z_squared = 1e-60 * math.exp(150)
    assert value == pytest.approx(0.5 * (math.log(2 * math.pi) - 150 + z_squared), rel=1e-5)
    assert float(pullback(wrt="logvar")[0, 0]) == pytest.approx(0.5 - 0.5 * z_squared, rel=1e-5)
    assert float(pullback(wrt="target")[0, 0]) == pytest.approx(1e-30 * math.exp(150), rel=1e-5)


def test_kl_is_zero_at_the_prior_and_only_there():
    zero = np.zeros((3, 4), np.float32)
    value, pullback = loss.gaussian_kl_loss_vjp(zero, zero)
    assert value == 0
    assert not np.any(pullback(wrt="mean"))
    assert not np.any(pullback(wrt="logvar"))
    assert loss.gaussian_kl_loss(zero + np.float32(0.1), zero) > 0
    assert loss.gaussian_kl_loss(zero, zero + np.float32(0.1)) > 0
    assert loss.gaussian_kl_loss(zero, zero - np.float32(0.1)) > 0


def test_twice_the_beta_is_twice_the_gradient():
    rng = np.random.default_rng(1)
    _, pullback = loss.gaussian_kl_loss_vjp(rng.standard_normal((5, 3)), rng.standard_normal((5, 3)))
    for one, two in zip(pullback(1.5), pullback(3.0), strict=True):
        assert np.any(one)
        assert np.array_equal(two, 2 * one)


def test_nats_per_image_do_not_depend_on_the_batch_size():
    rng = np.random.default_rng(2)
    mean, target, logvar = rng.standard_normal((3, 6, 7))
    logits = rng.standard_normal((6, 7))
    for f, args in [
        (loss.gaussian_kl_loss_vjp, (mean, logvar)),
        (loss.gaussian_nll_loss_vjp, (mean, target, logvar)),
        (lambda *a: loss.bce_with_logits_loss_vjp(*a, reduction="batchmean"), (logits, 1 / (1 + np.exp(-target)))),
    ]:
        once, pull_once = f(*args)
        twice, pull_twice = f(*(np.concatenate([a, a]) for a in args))
        assert twice == pytest.approx(once, rel=84 * 2.3e-16)
        per_image = [float(f(*(a[i : i + 1] for a in args))[0]) for i in range(6)]
        assert once == pytest.approx(sum(per_image) / 6, rel=1e-14)
        for a, b in zip(pull_once(), pull_twice(), strict=True):
            np.testing.assert_allclose(b[:6], a / 2, rtol=1e-15)


def test_reconstruction_and_divergence_have_one_scale():
    # 784 pixels of one nat each, 20 latents of half a nat each: sums over an image, means over the batch
    assert loss.gaussian_kl_loss(np.ones((8, 20)), np.zeros((8, 20))) == pytest.approx(10, rel=1e-15)
    offset = math.sqrt(2 - math.log(2 * math.pi))
    pixels = np.zeros((8, 1, 28, 28))
    assert loss.gaussian_nll_loss(pixels, pixels + offset, np.zeros(())) == pytest.approx(784, rel=784 * 2.3e-16)


def test_reparameterize_scales_noise_by_sigma():
    mean, logvar, noise = np.array([1.0, -1.0]), np.log([4.0, 0.25]), np.array([3.0, -2.0])
    np.testing.assert_allclose(loss.reparameterize(mean, logvar, noise), [7.0, -2.0], rtol=1e-15)


def test_half_precision_is_computed_in_float32():
    # The sum of 4096 squares of 16 leaves float16 on the way to a mean that fits
    big = np.full((4096,), 16.0, np.float16)
    value, pullback = loss.mse_loss_vjp(big, np.zeros_like(big))
    assert value.dtype == np.float16
    assert value == 256
    assert pullback(wrt="prediction").dtype == np.float16
    logits = np.array([[6e4, -6e4], [11.0, 0.0]], np.float16)
    value, pullback = loss.cross_entropy_loss_vjp(logits, np.array([0, 0]), reduction="none")
    assert value.tolist() == pytest.approx([0.0, math.exp(-11)], rel=2**-8, abs=2**-25)  # the latter is subnormal in half
    assert np.all(np.isfinite(pullback(np.ones(2, np.float16))))


@pytest.mark.parametrize("module", [classification, contrastive, pairs, regression, variational])
def test_examples_run(module):
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_the_page_runs():
    page = Path(__file__).parent.parent / "docs" / "loss.md"
    failed, tried = doctest.testfile(str(page), module_relative=False)
    assert tried
    assert not failed
