"""Files of images and labels for tests to write, and what every data set promises."""

from __future__ import annotations

import gzip
import struct

import numpy as np
from PIL import Image


def bytes_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx_bytes(a, code=0x08):
    return bytes([0, 0, code, a.ndim]) + struct.pack(f">{a.ndim}I", *a.shape) + a.astype(a.dtype.newbyteorder(">")).tobytes()


def write_mnist_layout(folder, train=12, test=5, packed=True):
    for part, n in (("train", train), ("t10k", test)):
        for name, a in ((f"{part}-images-idx3-ubyte", bytes_of(n, 4, 3)), (f"{part}-labels-idx1-ubyte", bytes_of(n) % 3)):
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx_bytes(a)))
            else:
                (folder / name).write_bytes(idx_bytes(a))
    return bytes_of(train, 4, 3), bytes_of(train) % 3


def write_images(folder, names, shape=(6, 5), mode="L"):
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        Image.fromarray(bytes_of(*shape, *channels, seed=k)).save(folder / name)


def check_invariants(d):
    for x, y in ((d.train_x, d.train_y), (d.test_x, d.test_y)):
        assert x.dtype == np.float32
        assert x.flags.c_contiguous
        assert x.shape[1:] == d.train_x.shape[1:]
        if x.size:
            assert x.min() >= 0
            assert x.max() <= 1
        if y is not None:
            assert y.dtype == np.int64
            assert y.shape == (len(x),)
            assert d.class_names is None or y.max(initial=0) < len(d.class_names)
