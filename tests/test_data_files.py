"""Data sets from IDX files and folders of images: labels, sizes, colours, and what damaged ones are told."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from datafiles import bytes_of, check_invariants, idx_bytes, write_images, write_mnist_layout
from PIL import Image

from numconv.train.data import load

# IDX files


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("some-images-idx3-ubyte", "some-labels-idx1-ubyte"),
        ("some-images-idx3-ubyte.gz", "some-labels-idx1-ubyte.gz"),
        ("images.idx", "labels.idx.gz"),
        ("images.idx.gz", None),
        ("pictures.idx", None),
    ],
)
def test_idx_with_labels_beside_it(tmp_path, images, labels):
    x, y = bytes_of(10, 4, 3), np.arange(10, dtype=np.uint8)
    for name, a in ((images, x), (labels, y)):
        if name:
            (tmp_path / name).write_bytes(gzip.compress(idx_bytes(a)) if name.endswith("gz") else idx_bytes(a))
    d = load(tmp_path / images, test_fraction=0)
    check_invariants(d)
    assert np.array_equal(d.train_x[:, 0] * 255, x)
    assert (d.train_y is None) == (labels is None)
    assert labels is None or d.train_y.tolist() == y.tolist()


@pytest.mark.parametrize(("code", "dtype"), [(0x0B, np.int16), (0x0C, np.int32), (0x0D, np.float32), (0x0E, np.float64)])
def test_idx_of_other_numbers(tmp_path, code, dtype):
    a = np.arange(12).reshape(3, 4).astype(dtype)
    (tmp_path / "a.idx").write_bytes(idx_bytes(a, code))
    d = load(tmp_path / "a.idx", scale=(0, 11), test_fraction=0)
    np.testing.assert_allclose(d.train_x[:, 0], a / 11, rtol=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_folder_with_the_four_files_of_mnist(tmp_path, packed):
    x, y = write_mnist_layout(tmp_path, packed=packed)
    d = load(tmp_path)
    check_invariants(d)
    assert d.name == tmp_path.name
    assert np.array_equal(d.train_x[:, 0] * 255, x)
    assert d.train_y.tolist() == y.tolist()
    assert len(d.test_x) == 5
    assert load(tmp_path / f"train-images-idx3-ubyte{'.gz' * packed}", test_fraction=0).train_y.tolist() == y.tolist()
    (tmp_path / f"t10k-labels-idx1-ubyte{'.gz' * packed}").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("not an IDX file: it starts with nothing", b""),
        ("not an IDX file: it starts with 89 50 4e 47; needed 00 00, type, axes", b"\x89PNG\r\n"),
        ("not an IDX file: it starts with 00 00 07 02", b"\0\0\x07\x02"),
        ("cut off: 8 bytes, but its header alone takes 16", idx_bytes(bytes_of(2, 3, 3))[:8]),
        (r"cut off: 33 bytes \(unpacked\), but its shape \(2, 3, 3\) takes 34", idx_bytes(bytes_of(2, 3, 3))[:-1]),
        ("too long: 35 bytes", idx_bytes(bytes_of(2, 3, 3)) + b"\0"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, text, content):
    for name, stored in (("a.idx", content), ("a.idx.gz", gzip.compress(content))):
        (tmp_path / name).write_bytes(stored)
        with pytest.raises(ValueError, match=f"{name}: {text}"):
            load(tmp_path / name)


def test_gzip_files_cut_off_anywhere_are_refused(tmp_path):
    path, whole = tmp_path / "a.idx.gz", gzip.compress(idx_bytes(bytes_of(2, 3, 3)))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"a.idx.gz: (gzip data of \d+ bytes is cut off or damaged|not an IDX file)"):
            load(path)
    for at in range(10, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"a.idx.gz: gzip data of \d+ bytes is cut off or damaged"):
            load(path)


def test_labels_that_do_not_match_their_images_are_refused(tmp_path):
    (tmp_path / "images.idx").write_bytes(idx_bytes(bytes_of(4, 3, 3)))
    (tmp_path / "labels.idx").write_bytes(idx_bytes(bytes_of(5)))
    with pytest.raises(ValueError, match=r"labels.idx: labels have shape \(5,\) for 4 images"):
        load(tmp_path / "images.idx")


# Folders of images


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_flat_folder(tmp_path, mode, channels):
    write_images(tmp_path, ["b.png", "a.png", "c.PNG"], mode=mode)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    d = load(tmp_path, test_fraction=0)
    check_invariants(d)
    assert d.name == tmp_path.name
    assert d.train_x.shape == (3, channels, 6, 5)
    assert (d.train_y, d.class_names) == (None, None)
    for k, seed in enumerate([1, 0, 2]):  # in order of name
        raw = bytes_of(6, 5, *([channels] if channels > 1 else []), seed=seed).reshape(6, 5, channels)
        assert np.array_equal(np.rint(d.train_x[k] * 255), raw.transpose(2, 0, 1))


def test_sub_folders_are_classes(tmp_path):
    write_images(tmp_path / "dog", ["1.png", "2.png"])
    write_images(tmp_path / "cat", ["1.png", "2.png", "3.png"])
    d = load(tmp_path, test_fraction=0)
    check_invariants(d)
    assert d.class_names == ("cat", "dog")
    assert d.train_y.tolist() == [0, 0, 0, 1, 1]
    assert np.array_equal(np.rint(d.train_x[3, 0] * 255), bytes_of(6, 5))


def test_size_resizes_and_crops_about_the_centre(tmp_path):
    picture = np.zeros((10, 30), np.uint8)
    picture[:, 10:20] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    write_images(tmp_path, ["b.png"], shape=(40, 20))
    d = load(tmp_path, size=10, test_fraction=0)
    assert d.train_x.shape == (2, 1, 10, 10)
    assert (d.train_x[0] == 1).all()
    assert load(tmp_path, size=(4, 6), test_fraction=0).train_x.shape == (2, 1, 4, 6)


def test_channels_bring_grey_colour_and_opacity_together(tmp_path):
    Image.new("L", (3, 3), 51).save(tmp_path / "a.png")
    Image.new("RGB", (3, 3), (51, 51, 51)).save(tmp_path / "b.png")
    Image.new("RGBA", (3, 3), (0, 0, 0, 204)).save(tmp_path / "c.png")
    Image.new("1", (3, 3), 0).save(tmp_path / "d.png")
    Image.new("LA", (3, 3), (0, 204)).save(tmp_path / "e.png")
    Image.new("RGBA", (3, 3), (51, 51, 51, 255)).quantize().save(tmp_path / "f.png")
    for channels in (1, 3):
        d = load(tmp_path, channels=channels, test_fraction=0)
        assert d.train_x.shape == (6, channels, 3, 3)
        np.testing.assert_allclose(d.train_x[:, 0, 0, 0], [0.2, 0.2, 0.2, 0, 0.2, 0.2], atol=1e-7)  # opacity is over white
    assert load(tmp_path, channels=4, test_fraction=0).train_x[2, :, 0, 0].tolist() == pytest.approx([0, 0, 0, 0.8])


def test_grey_of_sixteen_bits(tmp_path):
    for k in range(2):
        Image.fromarray(np.full((4, 4), 13107 * (k + 1), np.uint16)).save(tmp_path / f"{k}.png")
    d = load(tmp_path, test_fraction=0)
    np.testing.assert_allclose(d.train_x[:, 0, 0, 0], [0.2, 0.4], rtol=1e-6)
    assert load(tmp_path, size=2, test_fraction=0).train_x.shape == (2, 1, 2, 2)
    with pytest.raises(ValueError, match=r"0.png: Pillow's mode I;16 is not read with channels=3; needed one of 1, L, RGB"):
        load(tmp_path, channels=3)


def test_cameras_that_lay_on_their_side_are_set_upright(tmp_path):
    image, exif = Image.fromarray(bytes_of(6, 5)), Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    image.save(tmp_path / "a.png", exif=exif)
    d = load(tmp_path, test_fraction=0)
    assert np.array_equal(np.rint(d.train_x[0, 0] * 255), np.rot90(bytes_of(6, 5), -1))


def test_mixed_images_are_refused_by_name(tmp_path):
    write_images(tmp_path / "sizes", ["a.png", "b.png"])
    write_images(tmp_path / "sizes", ["c.png"], shape=(7, 5))
    with pytest.raises(ValueError, match=r"differ in size: .*a.png is 6x5, .*c.png is 7x5 \(height x width\); pass size="):
        load(tmp_path / "sizes")
    write_images(tmp_path / "kinds", ["a.png"])
    write_images(tmp_path / "kinds", ["b.png"], mode="RGB")
    with pytest.raises(ValueError, match=r"a.png has 1 channel of uint8, .*b.png has 3 channels of uint8; pass channels="):
        load(tmp_path / "kinds")


def test_folders_that_hold_no_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no images; looked for files that end in .png"):
        load(tmp_path)
    write_images(tmp_path / "cat", ["a.png"])
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match="dog: holds no images, though its name would be that of a class"):
        load(tmp_path)
    write_images(tmp_path, ["stray.png"])
    with pytest.raises(ValueError, match=r"holds both images \(1, such as stray.png\) and sub-folders \(2, such as cat\)"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "bmp", "tif"])
def test_unreadable_images_are_named(tmp_path, kind):
    write_images(tmp_path, [f"a.{kind}", f"b.{kind}"])
    path = tmp_path / f"b.{kind}"
    whole = path.read_bytes()
    for length in (0, 1, 20, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"b.{kind}: not readable as an image"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("error", "text", "options"),
    [
        (TypeError, r"size=2.5; needed an int, or two of them: \(height, width\)", {"size": 2.5}),
        (TypeError, r"size=\(1, 2, 3\); needed", {"size": (1, 2, 3)}),
        (ValueError, "size=0; needed sides of at least 1", {"size": 0}),
        (ValueError, r"channels=2; needed 1 \(grey\), 3 \(colour\) or 4", {"channels": 2}),
        (ValueError, "layout='nhw' does not apply to a folder of images", {"layout": "nhw"}),
    ],
)
def test_options_of_folders_out_of_range_are_refused(tmp_path, error, text, options):
    write_images(tmp_path, ["a.png", "b.png"])
    with pytest.raises(error, match=text):
        load(tmp_path, **options)
