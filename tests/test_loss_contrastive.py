"""Losses of embeddings against loops over pairs, golden numbers, and what they must not depend on."""

from __future__ import annotations

import math
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numconv import loss

seeds = st.integers(0, 2**32 - 1)
temperatures = st.sampled_from([0.01, 0.07, 0.5, 1.0, 10.0])
dtypes = st.sampled_from([np.float32, np.float64])


def rows(rng, n, dim, dtype=np.float64):
    return (rng.standard_normal((n, dim)) * rng.uniform(0.1, 10, (n, 1))).astype(dtype)


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = math.sqrt(float(a @ a)) * math.sqrt(float(b @ b))
    return float(a @ b) / lengths if lengths else 0.0


def log_sum_exp(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values))


def supcon_by_hand(z, labels, temperature):
    per_row = []
    for i in range(len(z)):
        s = {j: cosine(z[i], z[j]) / temperature for j in range(len(z)) if j != i}
        positives = [s[j] for j in s if labels[j] == labels[i]]
        if positives:
            per_row.append(sum(log_sum_exp(list(s.values())) - p for p in positives) / len(positives))
    return sum(per_row) / len(per_row) if per_row else 0.0


def info_nce_by_hand(za, zb, temperature):
    s = [[cosine(a, b) / temperature for b in zb] for a in za]
    return sum(log_sum_exp(row) - row[i] for i, row in enumerate(s)) / len(s)


def tolerance(dtype, dim, n, temperature):
    """Of a mean of log-sum-exps: an inner product of unit rows is off by (dim + 8) eps, over T; sums add n eps of log n + 2/T."""
    return float(np.finfo(dtype).eps) * ((dim + 8) / temperature + n * (math.log(2 * n) + 2 / temperature))


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(2, 7), st.integers(1, 9), temperatures, dtypes)
def test_softmax_losses_are_their_definitions(seed, n, dim, temperature, dtype):
    rng = np.random.default_rng(seed)
    za, zb = rows(rng, n, dim, dtype), rows(rng, n, dim, dtype)
    atol = tolerance(dtype, dim, 2 * n, temperature)
    image = [*range(n), *range(n)]
    got = loss.nt_xent_loss(za, zb, temperature)
    assert got.dtype == dtype
    assert got == pytest.approx(supcon_by_hand([*za, *zb], image, temperature), rel=0, abs=atol)
    one, other = info_nce_by_hand(za, zb, temperature), info_nce_by_hand(zb, za, temperature)
    assert loss.info_nce_loss(za, zb, temperature) == pytest.approx(one, rel=0, abs=atol)
    assert loss.info_nce_loss(za, zb, temperature, symmetric=True) == pytest.approx((one + other) / 2, rel=0, abs=atol)
    labels = rng.integers(-2, 2, n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        got = loss.supcon_loss(za, labels, temperature)
    assert got == pytest.approx(supcon_by_hand(za, labels, temperature), rel=0, abs=atol)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 7), st.integers(1, 9), temperatures, dtypes, st.sampled_from(["mean", "sum", "none", "batchmean"]))
def test_pair_losses_are_their_definitions(seed, n, dim, temperature, dtype, word):
    rng = np.random.default_rng(seed)
    a, p, q = (rows(rng, n, dim, dtype) for _ in range(3))
    same = rng.integers(0, 2, n)
    logits = [(cosine(a[i], p[i]) - 0.25) / temperature for i in range(n)]
    pairs = [log_sum_exp([0, -logit if positive else logit]) for logit, positive in zip(logits, same, strict=True)]
    triplets = [max(0.0, 2 * cosine(a[i], q[i]) - 2 * cosine(a[i], p[i]) + 0.3) for i in range(n)]
    for got, terms, scale in [
        (loss.contrastive_loss(a, p, same, temperature=temperature, threshold=0.25, reduction=word), pairs, 2 / temperature),
        (loss.triplet_loss(a, p, q, margin=0.3, reduction=word), triplets, 4.0),
    ]:
        expected = {"none": terms, "sum": sum(terms)}.get(word, sum(terms) / n)
        assert got.dtype == dtype
        np.testing.assert_allclose(got, expected, rtol=0, atol=n * (dim + 16) * float(np.finfo(dtype).eps) * scale)


def test_labels_may_be_booleans_and_change_with_the_sign():
    z = np.random.default_rng(0).standard_normal((2, 4, 3))
    same = np.array([True, False, True, False])
    ones = loss.contrastive_loss(*z, same, reduction="none")
    assert np.array_equal(ones, loss.contrastive_loss(*z, same.astype(np.int8), reduction="none"))
    assert np.array_equal(ones, loss.contrastive_loss(-z[0], z[1], ~same, reduction="none"))


def test_descent_draws_positives_together_and_negatives_apart():
    rng = np.random.default_rng(4)
    za, zb = rows(rng, 8, 5), rows(rng, 8, 5)
    same = np.arange(8) % 2
    _, pullback = loss.contrastive_loss_vjp(za, zb, same, temperature=1.0, reduction="sum")
    dza, dzb = pullback()
    before = np.array([cosine(a, b) for a, b in zip(za, zb, strict=True)])
    after = np.array([cosine(a, b) for a, b in zip(za - 1e-3 * dza, zb - 1e-3 * dzb, strict=True)])
    assert np.all((after > before) == (same == 1))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [2, 3, 64])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_identical_embeddings_are_at_chance(dtype, n, temperature):
    z = np.full((n, 4), 0.5, dtype)
    eps = float(np.finfo(dtype).eps)
    value, pullback = loss.nt_xent_loss_vjp(z, z, temperature)
    assert value == pytest.approx(math.log(2 * n - 1), rel=2 * eps)
    for gradient in pullback():  # all point the same way, which normalisation takes out: what is left is rounding over T
        np.testing.assert_allclose(gradient, 0, atol=8 * 1.2e-7 / temperature)
    assert loss.info_nce_loss(z, z, temperature) == pytest.approx(math.log(n), rel=2 * eps)
    labels = np.zeros(n, int)
    assert loss.supcon_loss(z, labels, temperature) == pytest.approx(math.log(n - 1), rel=2 * eps, abs=0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_orthogonal_images(dtype):
    golden = math.log1p(2 * math.exp(-2))
    assert golden == pytest.approx(0.239545, abs=5e-7)
    za = np.eye(2, dtype=dtype)
    assert loss.nt_xent_loss(za, za, 0.5) == pytest.approx(golden, rel=4 * float(np.finfo(dtype).eps))
    z, labels = np.concatenate([za, za]), np.array([0, 1, 0, 1])
    assert loss.supcon_loss(z, labels, 0.5) == pytest.approx(golden, rel=4 * float(np.finfo(dtype).eps))


def test_nt_xent_is_supcon_with_images_for_classes():
    rng = np.random.default_rng(3)
    za, zb = rows(rng, 6, 4), rows(rng, 6, 4)
    value, pullback = loss.nt_xent_loss_vjp(za, zb, 0.2)
    other, pull_other = loss.supcon_loss_vjp(np.concatenate([za, zb]), np.tile(np.arange(6), 2), 0.2)
    # 12 terms of up to 10, in two orders; gradients are at most 1 / T over the shortest row.
    assert value == pytest.approx(other, rel=0, abs=120 * np.finfo(float).eps)
    np.testing.assert_allclose(np.concatenate(pullback()), pull_other(), rtol=0, atol=120 * np.finfo(float).eps)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(2, 8))
def test_the_order_of_the_batch_does_not_matter(seed, n):
    rng = np.random.default_rng(seed)
    za, zb = rows(rng, n, 3), rows(rng, n, 3)
    order = rng.permutation(n)
    atol = tolerance(np.float64, 3, 2 * n, 0.1)
    for f in (loss.nt_xent_loss_vjp, loss.info_nce_loss_vjp):
        (value, pullback), (shuffled, pull_shuffled) = f(za, zb, 0.1), f(za[order], zb[order], 0.1)
        assert shuffled == pytest.approx(value, rel=0, abs=atol)
        for g, s in zip(pullback(), pull_shuffled(), strict=True):
            np.testing.assert_allclose(s, g[order], rtol=0, atol=atol * 10 / 0.1)  # norms down to 0.1 * |normal|
    # the towers of NT-Xent are interchangeable, and so are those of symmetric InfoNCE
    assert loss.nt_xent_loss(zb, za, 0.1) == pytest.approx(loss.nt_xent_loss(za, zb, 0.1), rel=0, abs=atol)
    swapped = loss.info_nce_loss(zb, za, 0.1, symmetric=True)
    assert swapped == pytest.approx(loss.info_nce_loss(za, zb, 0.1, symmetric=True), rel=0, abs=atol)
    labels = rng.integers(0, 2, n)
    names = np.array([17, -4])  # a class by any other name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        value = loss.supcon_loss(za, labels)
        assert loss.supcon_loss(za[order], names[labels][order]) == pytest.approx(value, rel=0, abs=atol)


def losses(za, zb, temperature):
    n = za.shape[0]
    labels = np.arange(n) % 2
    return {
        "nt_xent": loss.nt_xent_loss_vjp(za, zb, temperature),
        "info_nce": loss.info_nce_loss_vjp(za, zb, temperature),
        "symmetric": loss.info_nce_loss_vjp(za, zb, temperature, symmetric=True),
        "supcon": loss.supcon_loss_vjp(za, labels, temperature),
        "pairs": loss.contrastive_loss_vjp(za, zb, labels, temperature=temperature),
        "triplet": loss.triplet_loss_vjp(za, zb, za[::-1], margin=1.0),
    }


def gradients(pullback):
    g = pullback()
    return g if isinstance(g, tuple) else (g,)


def test_only_directions_count():
    rng = np.random.default_rng(6)
    za, zb = rows(rng, 6, 4), rows(rng, 6, 4)
    turned = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    plain, scaled, rotated = losses(za, zb, 0.5), losses(8 * za, zb / 4, 0.5), losses(za @ turned, zb @ turned, 0.5)
    for name, (value, pullback) in plain.items():
        assert scaled[name][0] == value  # powers of two change no digit
        assert rotated[name][0] == pytest.approx(value, rel=0, abs=tolerance(np.float64, 4, 12, 0.5))
        for z, g in zip((za, zb), gradients(pullback), strict=False):
            across = np.abs(np.sum(z * g, axis=1)) / np.linalg.norm(z, axis=1)
            assert np.all(across <= 32 * 2.3e-16 * (1 + np.abs(g).max()))  # no gradient along the row itself
            assert np.any(g)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("size", [1.0, "largest", "smallest"])
def test_nothing_overflows(dtype, temperature, size):
    rng = np.random.default_rng(8)
    info = np.finfo(dtype)
    size = {"largest": float(info.max) / 8, "smallest": float(info.smallest_normal) * 2**10}.get(size, size)
    za, zb = ((size * np.clip(rng.standard_normal((6, 4)), -3, 3)).astype(dtype) for _ in range(2))
    zb[0], zb[1] = za[0], -za[1]  # inner products of 1 and of -1: logits of 100 and of -100 at T = 0.01
    expected = losses(za.astype(np.float64) / size, zb.astype(np.float64) / size, temperature)
    eps = float(info.eps)
    for name, (value, pullback) in losses(za, zb, temperature).items():
        reference, pull_reference = expected[name]
        assert value == pytest.approx(float(reference), rel=eps, abs=tolerance(np.float32, 4, 12, temperature)), name
        if size >= 1:
            for g, e in zip(gradients(pullback), gradients(pull_reference), strict=True):
                # as in the comment of `tolerance`, over T once more, and what is below the smallest half is lost
                atol = 4 * tolerance(np.float32, 4, 12, temperature) / temperature + float(info.smallest_subnormal) * size
                np.testing.assert_allclose(g.astype(np.float64) * size, e, rtol=2 * eps, atol=atol, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_zero_vectors_have_no_direction(dtype, temperature):
    za, zb = np.eye(4, dtype=dtype), np.eye(4, dtype=dtype)
    za[0], zb[1] = 0, 0
    for name, (value, pullback) in losses(za, zb, temperature).items():
        assert np.isfinite(value), name
        g = gradients(pullback)
        assert all(np.all(np.isfinite(each)) for each in g), name
        assert not np.any(g[0][0])
    for value, pullback in losses(0 * za, 0 * zb, temperature).values():
        assert np.isfinite(value)
        assert not any(np.any(each) for each in gradients(pullback))
    assert loss.nt_xent_loss(0 * za, 0 * zb, temperature) == pytest.approx(math.log(7), rel=2 * float(np.finfo(dtype).eps))


def test_supcon_skips_rows_without_positives():
    z = rows(np.random.default_rng(9), 5, 3)
    labels = np.array([0, 0, 1, 2, 0])
    value, pullback = loss.supcon_loss_vjp(z, labels, 0.5)
    assert value == pytest.approx(supcon_by_hand(z, labels, 0.5), rel=1e-13)
    assert np.all(np.any(pullback() != 0, axis=1))  # skipped rows are still negatives of the others


@pytest.mark.parametrize("f", [loss.supcon_loss, loss.supcon_loss_vjp])
def test_supcon_without_any_positive_is_zero_and_says_so(f):
    z = rows(np.random.default_rng(9), 4, 3, np.float32)
    with pytest.warns(UserWarning, match=r"none of the 4 rows has a positive.*the loss and its gradient are 0") as seen:
        answer = f(z, np.arange(4), 0.01)
    assert seen[0].filename == __file__
    value, pullback = answer if isinstance(answer, tuple) else (answer, None)
    assert value == 0
    assert value.dtype == np.float32
    if pullback:
        assert pullback().tolist() == np.zeros((4, 3)).tolist()


def test_a_satisfied_triplet_costs_nothing_and_a_collapsed_one_the_margin():
    a, n = np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]])
    value, pullback = loss.triplet_loss_vjp(a, a, n)
    assert value == 0
    assert not any(np.any(g) for g in pullback())
    assert loss.triplet_loss(a, a, a, margin=0.2) == pytest.approx(0.2, rel=1e-15)


@pytest.mark.parametrize("name", ["nt_xent", "supcon"])
def test_memory_is_that_of_the_logits(name):
    # All of one class are n^2 positives for n anchors: whoever enumerates pairs of pairs holds n^3.
    n = 512
    z = np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)
    tracemalloc.start()
    if name == "nt_xent":
        _, pullback = loss.nt_xent_loss_vjp(z[: n // 2], z[n // 2 :], 0.1)
    else:
        _, pullback = loss.supcon_loss_vjp(z, np.zeros(n, int), 0.1)
    pullback()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * n * n * 4  # a handful of matrices of logits


def test_torch_agrees_value_and_gradient():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(10)
    za, zb = rows(rng, 6, 5), rows(rng, 6, 5)

    def unit(z):
        return z / z.norm(dim=1, keepdim=True)

    def nt_xent(a, b):
        z = torch.cat([unit(a), unit(b)])
        s = (z @ z.T / 0.07).fill_diagonal_(-torch.inf)
        return F.cross_entropy(s, (torch.arange(12) + 6) % 12)

    def clip(a, b):
        s = unit(a) @ unit(b).T / 0.07
        return (F.cross_entropy(s, torch.arange(6)) + F.cross_entropy(s.T, torch.arange(6))) / 2

    def triplet(a, b):
        return F.triplet_margin_with_distance_loss(
            unit(a), unit(b), unit(b).flip(0), distance_function=lambda x, y: ((x - y) ** 2).sum(1), margin=1.0
        )

    for ours, theirs in [
        (lambda a, b: loss.nt_xent_loss_vjp(a, b, 0.07), nt_xent),
        (lambda a, b: loss.info_nce_loss_vjp(a, b, 0.07, symmetric=True), clip),
    ]:
        a, b = (torch.tensor(z, requires_grad=True) for z in (za, zb))
        reference = theirs(a, b)
        reference.backward()
        value, pullback = ours(za, zb)
        atol = tolerance(np.float64, 5, 12, 0.07)
        assert value == pytest.approx(reference.item(), rel=0, abs=atol)
        for g, t in zip(pullback(), (a, b), strict=True):
            np.testing.assert_allclose(g, t.grad.numpy(), rtol=0, atol=atol * 10 / 0.07)
    value = loss.triplet_loss(za, zb, zb[::-1], margin=1.0)
    assert value == pytest.approx(triplet(torch.tensor(za), torch.tensor(zb)).item(), rel=1e-13)
