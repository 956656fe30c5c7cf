"""What is measured: layers, filters, signals. Rows marked `full` are left out of a quick run."""

from collections.abc import Iterable
from typing import NamedTuple


class Layer(NamedTuple):
    """A convolution of images, of as many taps along both axes."""

    batch: int
    c_in: int
    height: int
    width: int
    c_out: int
    taps: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1

    @property
    def out(self) -> tuple[int, int]:
        """Height and width of the output."""
        reach = self.dilation * (self.taps - 1) + 1 - 2 * self.padding
        return (self.height - reach) // self.stride + 1, (self.width - reach) // self.stride + 1

    @property
    def flops(self) -> int:
        """Multiplications and additions of the direct method; the same for all three contractions."""
        return 2 * self.batch * self.c_out * self.out[0] * self.out[1] * (self.c_in // self.groups) * self.taps**2

    @property
    def numbers(self) -> int:
        """Numbers in x, w and y together: what must move at least once."""
        x = self.batch * self.c_in * self.height * self.width
        return x + self.c_out * (self.c_in // self.groups) * self.taps**2 + self.batch * self.c_out * self.out[0] * self.out[1]

    @property
    def arguments(self) -> dict[str, int]:
        """Keywords of `conv2d`, here and in PyTorch."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}


LISTED = {  # the layers that the kernels were tuned on
    "224 stem 7x7/2 3-64": Layer(4, 3, 224, 224, 64, 7, 2, 3),
    "56 3x3 64": Layer(4, 64, 56, 56, 64, 3, 1, 1),
    "56 1x1 64-256": Layer(4, 64, 56, 56, 256, 1),
    "28 3x3 128": Layer(4, 128, 28, 28, 128, 3, 1, 1),
    "14 3x3 256": Layer(4, 256, 14, 14, 256, 3, 1, 1),
    "7 3x3 512": Layer(4, 512, 7, 7, 512, 3, 1, 1),
    "28 3x3/2 128-256": Layer(4, 128, 28, 28, 256, 3, 2, 1),
    "56 3x3 depthwise 128": Layer(4, 128, 56, 56, 128, 3, 1, 1, 1, 128),
    "28 3x3 dilated 128": Layer(4, 128, 28, 28, 128, 3, 1, 2, 2),
    "28 4x4/2 1-32": Layer(128, 1, 28, 28, 32, 4, 2, 1),
    "14 4x4/2 32-64": Layer(128, 32, 14, 14, 64, 4, 2, 1),
    "1024 3x3 1-1": Layer(1, 1, 1024, 1024, 1, 3, 1, 1),
    "1024 7x7 1-1": Layer(1, 1, 1024, 1024, 1, 7, 1, 3),
    "1024 31x31 1-1": Layer(1, 1, 1024, 1024, 1, 31, 1, 15),
    "512 5x5 3-16": Layer(1, 3, 512, 512, 16, 5, 1, 2),
}

UNSEEN = {  # of the same kinds, of other sizes: no kernel was tuned on them
    "128 stem 3x3/2 3-32": Layer(4, 3, 128, 128, 32, 3, 2, 1),
    "40 3x3 96": Layer(2, 96, 40, 40, 96, 3, 1, 1),
    "17 3x3 192": Layer(4, 192, 17, 17, 192, 3, 1, 1),
    "14 1x1 512-128": Layer(4, 512, 14, 14, 128, 1),
    "33 3x3 dilated 64": Layer(2, 64, 33, 33, 64, 3, 1, 4, 4),
    "32 5x5/2 depthwise 96": Layer(4, 96, 32, 32, 96, 5, 2, 2, 1, 96),
    "28 3x3 128, 8 groups": Layer(4, 128, 28, 28, 128, 3, 1, 1, 1, 8),
    "32 3x3/2 16-32": Layer(128, 16, 32, 32, 32, 3, 2, 1),
    "600 9x9 1-1": Layer(1, 1, 600, 600, 1, 9, 1, 4),
}

NETS = {**LISTED, **UNSEEN}
QUICK_NETS = ["56 3x3 64", "56 1x1 64-256", "28 3x3/2 128-256", "14 4x4/2 32-64", "1024 7x7 1-1", "17 3x3 192"]

TRANSPOSED = {  # batch, c_in, height, width, c_out, taps, stride, padding of the transposed convolution
    "decoder 7 4x4/2 64-32": Layer(128, 64, 7, 7, 32, 4, 2, 1),
    "decoder 14 4x4/2 32-1": Layer(128, 32, 14, 14, 1, 4, 2, 1),
    "DCGAN 1 4x4 100-512": Layer(16, 100, 1, 1, 512, 4),
    "DCGAN 4 4x4/2 512-256": Layer(16, 512, 4, 4, 256, 4, 2, 1),
    "DCGAN 8 4x4/2 256-128": Layer(16, 256, 8, 8, 128, 4, 2, 1),
    "DCGAN 16 4x4/2 128-64": Layer(16, 128, 16, 16, 64, 4, 2, 1),
    "DCGAN 32 4x4/2 64-3": Layer(16, 64, 32, 32, 3, 4, 2, 1),
}

FILTER_SIDE, SIGNAL_LENGTH = 1024, 1_000_000
FILTERS = [3, 5, 7, 9, 11, 15, 21, 31, 47, 63]
SIGNALS = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
SIDES = [8, 16, 32, 64, 128, 256]  # of images, where time is drawn against the size of the problem
DENSE_SIDES = [8, 12, 16, 24, 32, 48, 64, 96]  # of images, where a dense layer is set beside a convolution


def cases(rows: Iterable, quick: Iterable) -> list:
    """Return the rows as parameters of a test, all but the `quick` ones marked `full`."""
    import pytest  # here, as the tables are read on machines with a GPU that have none

    quick = set(quick)
    return [pytest.param(row, id=str(row), marks=[] if row in quick else pytest.mark.full) for row in rows]
