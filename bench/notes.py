"""Words by hand for the report: what bounds a goal that was not met, by its key in `goals.py`. Shown only while it is not met."""

from textwrap import dedent


def _line(text: str) -> str:
    return " ".join(dedent(text).split())


_STRIDE2 = _line("""
    Windows of 4 x 4 at stride 2 between maps of 14 and 7: forward, pixels stand on the rows of the tile and nothing is
    lost to gaps between rows (72 instead of 58 GFLOP/s on one core, whose peak is some 95). The weight gradient still
    runs along rows of 8 of which 7 count, in planes of 8 rows of which 7 count: 23 % of its products are with zeros.
    Next: pixels without gaps there too.
""")

BOUNDS: dict[str, str] = {
    "nets y": _line("""
        3 x 3 layers reach 1.7 to 2.3 by Winograd; direct ones 0.5 to 1.5. There tiles themselves run at 80 to 90 of
        some 95 GFLOP/s on one core, and copying comes on top: every input sample once into a strip, every sum once more
        from cache to its place. Next: tiles that store where results belong, for 1 x 1 windows; dilated windows by
        Winograd on residues.
    """),
    "nets each": _line("""
        1 x 1, 64 to 256 channels: 16 MB of memory for 0.41 GFLOP, 0.5 ms at the bandwidth of this run beside 2.9 ms at
        its peak, and sums go through cache once more than they need. Depthwise 5 x 5 at stride 2: a plane has 256
        outputs and 6400 multiply-adds, and a strip of 1024 samples in rows of 16; not taken apart.
    """)
    + " "
    + _STRIDE2,
    "filters small": _line("""
        3 x 3 is 9 multiply-adds for 8 bytes, so copying decides: a strip is one copy of the image more than reading its
        rows where they lie, which is next.
    """),
    "filters large": _line("""
        By transforms, which gain little from the second thread: 17.0 ms on one and 14.6 on two at 31 x 31, where direct
        sums went from 25.2 to 12.6. Tried: whole windows handed to threads, so that bits do not depend on their number.
        Next: find what they wait for.
    """),
    "signals short": _line("""
        128 taps: a tile of one row loads a vector for every product, 54 of 95 GFLOP/s on one core. Next: rows of the
        tile that are stretches of the signal, as they are rows of an image already.
    """),
    "signals long": _line("""
        512 taps run by direct sums, at 54 GFLOP/s a core of 95; above, transforms gain little from the second thread,
        see filters of 31 x 31 and above.
    """),
    "transposed": _STRIDE2
    + " From maps of 1 x 1 every output has one tap: a product of matrices, which the plan does not recognise yet.",
    "float64": _line("""
        Half the lanes on either side; where PyTorch multiplies matrices it runs at the machine's rate too, and only
        Winograd's 2.0 to 3.5 is left. One input channel under stride 2 leaves the tile to single rows (5 GFLOP/s).
    """),
    "training autoencoder": "Most of a step is convolution in one shape. " + _STRIDE2,
    "training VAE": "Most of a step is convolution in one shape. " + _STRIDE2,
    "training SimCLR": "As the autoencoder, and the two random views, which are made on one thread. Not yet taken apart further.",
    "training autoencoder, fresh memory": _line("""
        As the autoencoder, and page faults on top: 4 ms a step in this run, 30 in another. Next: results in memory
        kept.
    """),
    "roofline direct": _line("""
        The mean takes in layers of few channels and of 7 x 7 pixels, where a tile is stored after tens of steps and
        strips cost as much as sums. With 64 channels and 3 x 3 taps direct tiles run at 87 GFLOP/s on one core.
    """),
    "import": _line("""
        NumPy takes more than half of it, array-api-compat and the doors of ten rooms the rest. Next: rooms imported at
        first use.
    """),
    "first warm": "0.23 s are Numba's import, 0.33 s the first look at its cache and its type registries.",
    "tiny": "Checks, the plan and the address of each array in Python take some 15 us; the C call takes one.",
}
