"""Data sets from .npy and .npz files: layouts, ranges, names, and what damaged or unfit ones are told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datafiles import bytes_of, check_invariants, write_images

from numconv.train.data import load


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((10, 7), None, (1, 7)),
        ((10, 7, 6), None, (1, 7, 6)),
        ((10, 3, 7, 6), None, (3, 7, 6)),
        ((10, 7, 6, 3), None, (3, 7, 6)),
        ((10, 7, 6, 1), None, (1, 7, 6)),
        ((10, 2, 7), "ncl", (2, 7)),
        ((10, 7, 2), "nlc", (2, 7)),
        ((10, 7, 6, 3), "nchw", (7, 6, 3)),
        ((10, 3, 7, 3), "nhwc", (3, 3, 7)),
        ((10, 4, 5, 6), "ndhw", (1, 4, 5, 6)),
        ((10, 4, 5, 6, 2), "ndhwc", (2, 4, 5, 6)),
    ],
)
def test_npy_of_every_layout(tmp_path, shape, layout, expected):
    a = bytes_of(*shape)
    np.save(tmp_path / "a.npy", a)
    d = load(tmp_path / "a.npy", layout=layout, test_fraction=0)
    check_invariants(d)
    assert d.name == "a.npy"
    assert d.train_x.shape == (10, *expected)
    assert d.train_y is None
    if expected[0] == shape[-1]:
        a = np.moveaxis(a, -1, 1) if layout != "nchw" else a
    assert np.array_equal(d.train_x, a.reshape(10, *expected).astype(np.float32) / np.float32(255))


@pytest.mark.parametrize(
    ("a", "scale", "expected"),
    [
        (np.array([[0, 51, 255]], np.uint8), None, [0, 0.2, 1]),
        (np.array([[0, 13107, 65535]], np.uint16), None, [0, 0.2, 1]),
        (np.array([[0, 13107, 65535]], ">u2"), None, [0, 0.2, 1]),
        (np.array([[False, True]]), None, [0, 1]),
        (np.array([[0.0, 0.25, 1.0]]), None, [0, 0.25, 1]),
        (np.array([[0.0, 0.25, 1.0]], np.float16), None, [0, 0.25, 1]),
        (np.array([[-1.0, 0.0, 1.0]]), (-1, 1), [0, 0.5, 1]),
        (np.array([[0, 4, 16]]), (0, 16), [0, 0.25, 1]),
        (np.array([[0, 51, 255]], np.uint8), (0, 510), [0, 0.1, 0.5]),
    ],
)
def test_npy_of_every_dtype(tmp_path, a, scale, expected):
    np.save(tmp_path / "a.npy", a)
    d = load(tmp_path / "a.npy", scale=scale, test_fraction=0)
    check_invariants(d)
    np.testing.assert_allclose(d.train_x[0, 0], expected, rtol=1e-7)


def test_the_scale_suggested_for_floats_is_one_that_works(tmp_path):
    a = np.random.default_rng(0).normal(size=(20, 9)).astype(np.float32)
    np.save(tmp_path / "a.npy", a)
    low, high = float(a.min()), float(a.max())
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        load(tmp_path / "a.npy")
    assert f"pixels run from {low} to {high}; needed 0 to 1; pass scale=({low}, {high})" in str(refusal.value)
    d = load(tmp_path / "a.npy", scale=(low, high), test_fraction=0)
    assert (d.train_x.min(), d.train_x.max()) == (0, 1)


@pytest.mark.parametrize(
    ("error", "text", "a", "options"),
    [
        (ValueError, "pixels are int64 from 0 to 9; only uint8 and uint16 have a known range", np.arange(10).reshape(2, 5), {}),
        (ValueError, "pixels run from 0.0 to 9.0; needed 0 to 5", np.arange(10).reshape(2, 5), {"scale": (0, 5)}),
        (ValueError, "2 of 6 pixels are NaN or infinite, the first in image 1", np.array([[0, 0], [0, np.nan], [np.inf, 0]]), {}),
        (TypeError, "pixels have dtype complex128; needed integers or real numbers", np.zeros((2, 2), complex), {}),
        (TypeError, "pixels have dtype <U1", np.array([["a"]]), {}),
        (ValueError, r"an array of shape \(0, 4, 4\) holds no images", np.zeros((0, 4, 4)), {}),
        (ValueError, r"an array of shape \(4,\) holds no images", np.zeros(4), {}),
        (
            ValueError,
            r"which axes of shape \(2, 3, 5, 3\) are channels, height and width\? Say layout=",
            np.zeros((2, 3, 5, 3)),
            {},
        ),
        (ValueError, r"which axes of shape \(2, 9, 9, 9\) are channels", np.zeros((2, 9, 9, 9)), {}),
        (ValueError, "layout='hwn'; needed one of nl, ncl", np.zeros((2, 9, 9)), {"layout": "hwn"}),
        (ValueError, r"layout='nchw' has 4 axes, the array's shape is \(2, 9, 9\)", np.zeros((2, 9, 9)), {"layout": "nchw"}),
        (ValueError, r"scale=\(1, 1\); needed \(black, white\) with black < white", np.zeros((2, 9)), {"scale": (1, 1)}),
        (TypeError, "scale=3; needed two numbers", np.zeros((2, 9)), {"scale": 3}),
        (ValueError, "size=8 does not apply to a file", np.zeros((2, 9)), {"size": 8}),
        (ValueError, "channels=1 does not apply to a file", np.zeros((2, 9)), {"channels": 1}),
        (ValueError, "folder='x' does not apply to paths", np.zeros((2, 9)), {"folder": "x"}),
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, error, text, a, options):
    np.save(tmp_path / "a.npy", a)
    with pytest.raises(error, match=text):
        load(tmp_path / "a.npy", **options)


def test_options_of_files_do_not_apply_to_names_and_folders(tmp_path):
    write_images(tmp_path, ["a.png", "b.png"])
    for what, option in [("digits", "size"), ("mnist-5k", "folder"), ("fashion-mnist", "layout"), (tmp_path, "scale")]:
        with pytest.raises(ValueError, match=f"{option}=1 does not apply to "):
            load(what, **{option: 1})


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("train_x", "train_y"), ("x_train", "y_train")])
def test_npz_names(tmp_path, names):
    np.savez_compressed(tmp_path / "a.npz", **{names[0]: bytes_of(10, 5, 4), names[1]: np.arange(10) % 3, "other": np.zeros(3)})
    d = load(tmp_path / "a.npz", test_fraction=0.3, seed=4)
    check_invariants(d)
    assert (len(d.train_x), len(d.test_x), d.class_names) == (7, 3, None)
    both = np.concatenate([d.train_x, d.test_x])
    order = [int(np.flatnonzero((bytes_of(10, 5, 4) == np.rint(x[0] * 255)).all(axis=(1, 2)))[0]) for x in both]
    assert sorted(order) == list(range(10))
    assert np.concatenate([d.train_y, d.test_y]).tolist() == [k % 3 for k in order]


def test_npz_with_a_test_part_and_words_for_labels(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        x_train=bytes_of(4, 5, 4),
        y_train=np.array(["cat", "dog", "cat", "ant"]),
        x_test=bytes_of(2, 5, 4, seed=1),
        y_test=np.array(["dog", "cat"]),
    )
    d = load(tmp_path / "a.npz")
    check_invariants(d)
    assert d.class_names == ("ant", "cat", "dog")
    assert (d.train_y.tolist(), d.test_y.tolist()) == ([1, 2, 1, 0], [2, 1])
    assert np.array_equal(d.test_x[:, 0] * 255, bytes_of(2, 5, 4, seed=1))


def test_npz_with_class_names(tmp_path):
    np.savez(tmp_path / "a.npz", x=bytes_of(4, 5), y=np.array([0, 1, 1, 0]), class_names=np.array(["no", "yes"]))
    assert load(tmp_path / "a.npz").class_names == ("no", "yes")


X = bytes_of(4, 5)


@pytest.mark.parametrize(
    ("error", "text", "members"),
    [
        (ValueError, "holds a, b; needed images under one of the names x, images", {"a": X, "b": X}),
        (ValueError, "holds nothing; needed images", {}),
        (ValueError, "holds test_x; needed images under one of the names x, images", {"test_x": X}),
        (ValueError, "holds x and images, which mean the same", {"x": X, "images": X}),
        (ValueError, "holds labels y of no images", {"y": np.arange(4)}),
        (ValueError, r"labels have shape \(3,\) for 4 images; needed \(4,\)", {"x": X, "y": np.arange(3)}),
        (ValueError, r"labels have shape \(4, 1\) for 4 images", {"x": X, "y": np.zeros((4, 1), int)}),
        (TypeError, "labels have dtype float64; needed integers or words", {"x": X, "y": np.zeros(4)}),
        (ValueError, "labels run from -1 to 2; needed class numbers from 0 on", {"x": X, "y": np.arange(4) - 1}),
        (
            ValueError,
            "a label is 3, but there are 2 class names",
            {"x": X, "y": np.arange(4), "class_names": np.array(["a", "b"])},
        ),
        (ValueError, "only the training images have labels", {"x": X, "y": np.arange(4), "test_x": X}),
        (ValueError, r"training images are \(1, 5\), test images \(1, 4\)", {"x": X, "test_x": X[:, :4]}),
        (ValueError, "label 'c' is not among the class names a, b", {"x": X, "y": [*"abab"], "test_x": X, "test_y": [*"abca"]}),
        (
            ValueError,
            "numbers in one part, training or test, and words",
            {"x": X, "y": [0] * 4, "test_x": X, "test_y": [*"abaa"]},
        ),
        (ValueError, "holds Python objects", {"x": np.array([{}, []], dtype=object)}),
    ],
)
def test_npz_that_do_not_fit_together_are_refused(tmp_path, error, text, members):
    np.savez(tmp_path / "a.npz", **members)
    with pytest.raises(error, match=rf"a.npz: .*({text})"):
        load(tmp_path / "a.npz")


def test_pickles_are_refused_and_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "a.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a.npy: holds Python objects, .* unpickling them can run code"):
        load(tmp_path / "a.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_files_of_numpy_cut_off_anywhere_are_refused(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    np.save(path, bytes_of(3, 6)) if kind == "npy" else np.savez_compressed(path, x=bytes_of(3, 6))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"a.{kind}: "):
            load(path)


def test_damaged_headers_raise_nothing_but_refusals(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, bytes_of(3, 6))
    whole = path.read_bytes()
    for at in range(128):
        for flip in (0x01, 0x10, 0x80):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
            try:
                load(path, test_fraction=0)
            except (ValueError, TypeError) as error:
                assert "a.npy" in str(error)  # noqa: PT017


def test_kinds_of_numpy_files_are_not_mixed_up(tmp_path):
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    with pytest.raises(ValueError, match=r"b.npz: holds a single array"):
        load(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=X)
    (tmp_path / "d.npy").write_bytes((tmp_path / "c.npz").read_bytes())
    with pytest.raises(ValueError, match=r"d.npy: holds several arrays"):
        load(tmp_path / "d.npy")
    (tmp_path / "e.txt").write_text("no")
    with pytest.raises(ValueError, match=r"e.txt: unknown kind of file; needed .npy, .npz, .idx"):
        load(tmp_path / "e.txt")
