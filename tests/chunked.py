"""Dask arrays for tests: random chunks, and a scheduler that lets nothing be computed."""

from itertools import pairwise

import dask
import dask.array as da
from hypothesis import strategies as st


@st.composite
def chunks_of(draw, shape):
    """Draw chunks of any sizes, those smaller than any window too, for every axis of a shape."""
    chunks = []
    for size in shape:
        cuts = draw(st.lists(st.integers(1, size - 1), max_size=4, unique=True)) if size > 1 else []
        chunks.append(tuple(b - a for a, b in pairwise([0, *sorted(cuts), size])))
    return tuple(chunks)


def lazily():
    """Fail if anything is computed within this context."""

    def refuse(*_, **__):
        raise AssertionError("a graph was computed")

    return dask.config.set(scheduler=refuse)


def of(data, a):
    """Return a NumPy array as a dask array of drawn chunks."""
    return da.from_array(a, chunks=data.draw(chunks_of(a.shape)))
