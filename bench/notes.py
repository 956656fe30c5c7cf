"""Words by hand for the report: what bounds a goal that was not met, by its key in `goals.py`. Shown only while it is not met."""

from textwrap import dedent


def _line(text: str) -> str:
    return " ".join(dedent(text).split())


_STEP = _line("""
    Most of a step is convolution with 4 x 4 taps at stride 2 on maps of 14 and 7, by Winograd's F(4x4, 2x2) on the four parts
    of the stride: 100 products where direct sums take 196 on a map of 7 x 7, for two tiles of 4 cover it. Some 60 % of their
    time are products, at 80 % of the peak; the rest changes samples to the basis and back. Left: linear layers, which run at
    PyTorch's speed; sums of gradients for the bias, made by NumPy (0.24 ms for 3 MB, einsum 0.07).
""")

BOUNDS: dict[str, str] = {
    "nets y": _line("""
        Layers by Winograd reach 1.1 to 2.1, direct ones 0.7 to 1.2: there tiles themselves run at 80 to 90 of some 95 GFLOP/s
        on one core, and copying comes on top: every input sample once into a strip, every sum once more from cache to its place.
        Next: tiles that store where results belong, for 1 x 1 windows.
    """),
    "nets each": _line("""
        1 x 1, 64 to 256 channels: 16 MB of memory for 0.41 GFLOP; sums run at 87 GFLOP/s on one core, but are stored at 10 GB/s,
        half of what filling memory reaches. Tried without gain: smaller blocks, narrower blocks, aligned results. Next: stores
        that pass by the cache. Depthwise 3 x 3: 9 multiply-adds for every sample copied, masked at both ends of a row. One input
        channel at stride 2: 16 taps, then 32 sums are stored. Next: rows of images read where they lie.
    """),
    "filters small": _line("""
        3 x 3 is 9 multiply-adds for 8 bytes, so copying decides: a strip is one copy of the image more than reading its
        rows where they lie, which is next.
    """),
    "filters large": _line("""
        By transforms: 31 x 31 in float64 took 7.8 to 8.7 ms on two threads when nothing else ran, 17.9 in this run, where the
        peak of the machine was lower too; 13.4 to 14.1 on one thread. Next: a filter's own spectrum is made on one thread.
    """),
    "signals short": "Tiles run at 79 GFLOP/s on one core at 128 taps; short filters are bound by copying.",
    "signals long": "Transforms of windows in pairs, in place; what is left is the machine's memory and NumPy's product.",
    "transposed": _STEP
    + " "
    + _line("""
        64 to 3 channels: the input gradient sums 48 terms for each result, and is not taken apart.
    """),
    "float64": _line("""
        Half the lanes on either side; where PyTorch multiplies matrices it runs at the machine's rate too, and only
        Winograd's 1.4 to 3.5 is left.
    """),
    "training autoencoder": _STEP,
    "training VAE": _STEP,
    "training SimCLR": _STEP,
    "training autoencoder, fresh memory": _STEP,
    "roofline direct": _line("""
        The mean takes in layers of few channels and of 7 x 7 pixels, where a tile is stored after tens of steps and
        strips cost as much as sums. With 64 channels and 3 x 3 taps direct tiles run at 87 GFLOP/s on one core.
    """),
    "import": "NumPy takes nearly all of it: numconv itself 2 ms, its rooms are imported at first use.",
    "first warm": "0.24 s are Numba's import, 0.08 s the kernels, loaded without the registries that only compiling needs.",
    "first cold": _line("""
        But for 0.44 s, as from a warm cache, it is LLVM compiling the direct kernel, with inner loops for four shapes of tile and
        for dealing and weaving two and four phases. Next: phases in a kernel of their own, compiled where a stride asks for them.
    """),
    "tiny": "Checks, the plan and the address of each array in Python take some 15 us; the C call takes one.",
}
