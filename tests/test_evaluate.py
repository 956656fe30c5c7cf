"""The measures against slow and independent ones: loops for neighbours and sums, NumPy's SVD for PCA, an integral for the KL."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numconv.train import evaluate
from numconv.train.evaluate import PROTOCOL


def vectors(count, size, seed=0):
    return np.random.default_rng(seed).standard_normal((count, size)).astype(np.float32)


def squared_distance(a, b):
    return sum((float(p) - float(q)) ** 2 for p, q in zip(a.ravel(), b.ravel(), strict=True))


def slow_knn(bank, bank_labels, queries, query_labels, k):
    """One query, one neighbour, one vote at a time."""
    right = 0
    for query, wanted in zip(queries, query_labels, strict=True):
        order = sorted(range(len(bank)), key=lambda i: squared_distance(bank[i], query))[:k]
        votes = {}
        for i in order:
            votes[int(bank_labels[i])] = votes.get(int(bank_labels[i]), 0) + 1
        most = max(votes.values())
        right += min(c for c, n in votes.items() if n == most) == wanted
    return right / len(queries)


# --- neighbours ---


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**31))
def test_knn_accuracy_is_that_of_loops(bank_size, query_count, k, classes, seed):
    rng = np.random.default_rng(seed)
    bank, queries = vectors(bank_size, 3, seed), vectors(query_count, 3, seed + 1)
    bank_labels, query_labels = rng.integers(0, classes, bank_size), rng.integers(0, classes, query_count)
    expected = slow_knn(bank, bank_labels, queries, query_labels, min(k, bank_size))
    assert evaluate.knn_accuracy(bank, bank_labels, queries, query_labels, k) == pytest.approx(expected, abs=1e-12)


def test_knn_takes_images_as_they_are():
    bank, queries = vectors(30, 12).reshape(30, 3, 2, 2), vectors(7, 12, 1).reshape(7, 3, 2, 2)
    flat = bank.reshape(30, 12), queries.reshape(7, 12)
    np.testing.assert_array_equal(evaluate.nearest(bank, queries, 5), evaluate.nearest(*flat, 5))


def test_nearest_comes_first():
    found = evaluate.nearest(np.array([[0.0], [5.0], [2.0], [9.0]]), np.array([[1.9], [9.1]]), 3)
    assert found.tolist() == [[2, 0, 1], [3, 1, 2]]


def test_ties_go_to_the_lower_class():
    bank, labels = np.array([[-1.0], [1.0]]), np.array([2, 1])
    assert evaluate.knn_accuracy(bank, labels, np.array([[0.1]]), np.array([1]), 2) == 1
    assert evaluate.knn_accuracy(bank, labels, np.array([[-0.1]]), np.array([2]), 2) == 0


def test_a_shift_of_the_space_changes_no_neighbour():
    bank, queries = vectors(50, 4), vectors(20, 4, 1)
    np.testing.assert_array_equal(evaluate.nearest(bank, queries, 10), evaluate.nearest(bank + 3, queries + 3, 10))


def test_a_class_that_the_bank_lacks_is_never_right():
    bank = vectors(12, 2)
    assert evaluate.knn_accuracy(bank, np.zeros(12, int), bank, np.full(12, 7)) == 0


@pytest.mark.parametrize("neighbours", [0, -1, 6])
def test_nearest_refuses(neighbours):
    with pytest.raises(ValueError, match=rf"{neighbours} neighbours from a bank of 5 vectors; needed 1 to 5"):
        evaluate.nearest(vectors(5, 2), vectors(3, 2), neighbours)


# --- the protocol ---


def test_the_protocol_is_fixed():
    assert PROTOCOL == (10, 6000, 2000)


def test_leading_takes_the_first_of_a_mixed_set():
    assert evaluate.leading(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evaluate.leading(9, 5).tolist() == [0, 1, 2, 3, 4]
    assert evaluate.leading(4, 8, np.array([0, 1, 2, 0, 1, 2, 0, 1])).tolist() == [0, 1, 2, 3]


def test_leading_draws_from_a_set_that_is_sorted_by_class():
    labels = np.repeat(np.arange(4), 100)
    found = evaluate.leading(200, 400, labels)
    assert len(set(found.tolist())) == 200
    assert (np.diff(found) > 0).all()
    assert np.bincount(labels[found]).min() > 25  # the first 200 would be two classes only
    np.testing.assert_array_equal(found, evaluate.leading(200, 400, labels))


@pytest.mark.parametrize(
    ("train", "test", "wanted"),
    [
        ((400, True), (100, True), ("k=10", "all 400 training images", "all 100 test images")),
        ((7000, True), (2500, True), ("k=10", "the first 6,000 training images", "the first 2,000 test images")),
        ((7000, False), (2500, False), ("6,000 training images drawn at random", "2,000 test images drawn at random")),
        ((4, True), (2, True), ("k=4", "all 4 training images")),
    ],
)
def test_the_sentence_says_what_was_done(train, test, wanted):
    labels = [np.arange(n) % 2 if mixed else (np.arange(n) > 0.95 * n).astype(int) for n, mixed in (train, test)]
    sentence = PROTOCOL.sentence(*labels)
    assert all(words in sentence for words in (*wanted, "Euclidean", "majority vote (ties to the lower class)"))


# --- PCA ---


@pytest.mark.parametrize("dimension", [1, 3, 7])
def test_pca_is_that_of_the_svd(dimension):
    x = (vectors(40, 18) * np.linspace(3, 0.2, 18)).reshape(40, 2, 3, 3).astype(np.float64)
    flat, mean = x.reshape(40, 18), x.reshape(40, 18).mean(axis=0)
    _, _, axes = np.linalg.svd(flat - mean, full_matrices=False)
    new = vectors(5, 18, 9).reshape(5, 2, 3, 3).astype(np.float64)
    expected = mean + (new.reshape(5, 18) - mean) @ axes[:dimension].T @ axes[:dimension]
    pca = evaluate.fit_pca(x, dimension)
    assert pca.embed(new).shape == (5, dimension)
    np.testing.assert_allclose(pca.reconstruct(new), expected.reshape(new.shape), rtol=1e-8, atol=1e-10)
    # Coordinates are the same up to each axis's sign.
    coordinates = np.abs((new.reshape(5, 18) - mean) @ axes[:dimension].T)
    np.testing.assert_allclose(np.abs(pca.embed(new)), coordinates, rtol=1e-7, atol=1e-10)


def test_pca_of_large_images_finds_what_is_there():
    """Above 2000 pixels the way is a random one; of images that are three numbers each, it must still be right."""
    x = (vectors(60, 3) @ vectors(3, 2500, 1)).reshape(60, 1, 50, 50)
    np.testing.assert_allclose(evaluate.fit_pca(x, 3).reconstruct(x), x, atol=1e-3)
    np.testing.assert_array_equal(evaluate.fit_pca(x, 3).components, evaluate.fit_pca(x, 3).components)


def test_pca_has_no_more_components_than_images_or_pixels():
    assert evaluate.fit_pca(vectors(5, 9), 32).components.shape[0] == 5
    assert evaluate.fit_pca(vectors(50, 4), 32).components.shape[0] == 4


def test_pca_keeps_float32():
    pca = evaluate.fit_pca(vectors(20, 6), 2)
    assert {a.dtype for a in (pca.mean, pca.components, pca.embed(vectors(3, 6)))} == {np.dtype(np.float32)}


# --- reconstruction ---


def test_mse_is_that_of_loops():
    x, y = vectors(3, 8).reshape(3, 2, 2, 2), vectors(3, 8, 1).reshape(3, 2, 2, 2)
    assert evaluate.mse(x, y) == pytest.approx(squared_distance(x, y) / 24, rel=1e-12)


def test_mse_sums_in_double_precision():
    """A million small squares beside one of 1: float32 would lose them."""
    x = np.full((1, 2**20), 1e-4, np.float32)
    assert evaluate.mse(x, np.zeros_like(x)) == pytest.approx(float(np.float32(1e-4)) ** 2, rel=1e-12)


def test_mse_refuses_two_shapes():
    with pytest.raises(ValueError, match=r"images of shape \(2, 3\) against \(2, 4\); needed one shape"):
        evaluate.mse(vectors(2, 3), vectors(2, 4))


@pytest.mark.parametrize(("error", "decibel"), [(1.0, 0), (0.1, 10), (0.01, 20), (0.02, 16.9897000433601880)])
def test_psnr(error, decibel):
    assert evaluate.psnr(error) == pytest.approx(decibel, abs=1e-12)


def test_psnr_of_no_error_is_infinite():
    assert evaluate.psnr(0.0) == math.inf


# --- variational ---


def test_bernoulli_floor_is_the_cost_of_exact_pixels():
    x = np.random.default_rng(0).random((4, 1, 3, 3))
    x[0, 0, 0] = 0, 1, 0.5
    total = 0.0
    for p in x.ravel():
        total -= sum(q * math.log(q) for q in (p, 1 - p) if q > 0)
    assert evaluate.bernoulli_floor(x) == pytest.approx(total / 4, rel=1e-12)
    assert evaluate.bernoulli_floor(x.astype(np.float32)) == pytest.approx(total / 4, rel=1e-6)


def test_bernoulli_floor_of_black_and_white_is_nothing():
    assert evaluate.bernoulli_floor(np.array([[0.0, 1.0, 1.0]], np.float32)) == 0


def test_bernoulli_floor_is_below_any_prediction():
    rng = np.random.default_rng(1)
    x, p = rng.random((6, 20)), rng.uniform(0.01, 0.99, (6, 20))
    assert -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum() / 6 > evaluate.bernoulli_floor(x)


def test_kl_per_latent_is_the_integral():
    """Against the definition, the integral of q log(q / p), on a fine grid."""
    mean, logvar = np.array([[0.0, 1.5], [-0.7, 0.2]]), np.array([[0.0, -2.0], [0.6, -0.3]])
    z = np.linspace(-15, 15, 300001)
    expected = np.zeros(2)
    for row in range(2):
        for j in range(2):
            m, v = mean[row, j], math.exp(logvar[row, j])
            log_q = -0.5 * (np.log(2 * np.pi * v) + (z - m) ** 2 / v)
            log_p = -0.5 * (np.log(2 * np.pi) + z**2)
            expected[j] += np.sum(np.exp(log_q) * (log_q - log_p)) * (z[1] - z[0]) / 2
    np.testing.assert_allclose(evaluate.kl_per_latent(mean, logvar), expected, rtol=1e-8)


def test_active_units_counts_means_that_move():
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((5000, 4)) * [1.0, 0.2, 0.05, 0.0] + 3  # variances 1, 0.04, 0.0025, 0
    assert evaluate.active_units(mean.astype(np.float32)) == 2
    assert evaluate.active_units(mean, threshold=0.001) == 3
    assert evaluate.active_units(np.ones((10, 3))) == 0


# --- contrastive ---


@pytest.mark.parametrize("size", [2, 16, 128])
def test_collapse_level_is_one_where_directions_are_even(size):
    assert evaluate.collapse_level(vectors(20000, size)) == pytest.approx(1, abs=0.02)


def test_collapse_level_is_zero_where_all_point_one_way():
    along = np.outer(np.random.default_rng(0).uniform(0.5, 9, 100), [1.0, 2.0, -3.0])
    assert evaluate.collapse_level(along) == pytest.approx(0, abs=1e-12)
    assert evaluate.collapse_level(np.zeros((5, 3))) == 0


def test_collapse_level_does_not_see_lengths():
    z = vectors(500, 6)
    lengths = np.random.default_rng(1).uniform(0.1, 50, (500, 1))
    assert evaluate.collapse_level(z * lengths) == pytest.approx(evaluate.collapse_level(z), rel=1e-5)


def test_collapse_level_between():
    """Two opposite directions along one of four axes: deviations 1, 0, 0, 0, their mean 1/4, times the root of 4."""
    assert evaluate.collapse_level(np.array([[1.0, 0, 0, 0], [-2.0, 0, 0, 0]])) == pytest.approx(0.5)


@pytest.mark.parametrize("pairs", [2, 8, 256])
def test_chance_level_is_the_loss_of_embeddings_alike(pairs):
    from numconv.loss import nt_xent_loss

    alike = np.ones((pairs, 3))
    assert evaluate.chance_level(pairs) == pytest.approx(float(nt_xent_loss(alike, alike, 0.5)), abs=1e-12)


@pytest.mark.parametrize("pairs", [0, -3])
def test_chance_level_refuses(pairs):
    with pytest.raises(ValueError, match=rf"{pairs} pairs; needed at least 1"):
        evaluate.chance_level(pairs)


# --- classification ---


def test_confusion_counts_by_row_the_class_and_by_column_the_answer():
    labels, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    assert evaluate.confusion(labels, predicted, 4).tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
