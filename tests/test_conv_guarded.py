"""Every method on arrays that lie against pages nobody may touch: a read or write beside them ends the process."""

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import normals

from numconv import _jit
from numconv.conv import generic, geometry
from numconv.conv.cpu import direct, fourier, gradient, method, winograd, winograd_gradient

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages by Linux's mprotect")
CONTRACTIONS = ("contract_y", "contract_x", "contract_w")
PAGE = mmap.PAGESIZE
ALIGNMENT = 64  # of scratch memory
NO_ACCESS, READ_WRITE = 0, 3


class Guarded:
    """Memory of whole pages between two that are protected, filled with NaN; blocks touch the second or the first of them."""

    def __init__(self, at_end: bool) -> None:
        self.at_end, self._pages = at_end, []

    def block(self, size: int) -> int:
        """Return the address of `size` bytes."""
        whole = -(-size // PAGE) * PAGE
        pages = mmap.mmap(-1, whole + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        ctypes.memset(start + PAGE, 255, whole)
        self._pages.append((pages, (start, start + PAGE + whole)))
        self._protect(NO_ACCESS, self._pages[-1][1])
        return start + PAGE + (whole - size if self.at_end else 0)

    def array(self, shape, dtype) -> np.ndarray:
        """Return an array of unknown numbers."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(self.block(size)), dtype).reshape(shape)

    def scratch(self, size: int) -> int:
        """Return the address of aligned memory."""
        return self.block(-(-size // ALIGNMENT) * ALIGNMENT)

    def release(self) -> None:
        """Give all pages back as they came."""
        for _, edges in self._pages:
            self._protect(READ_WRITE, edges)
        self._pages.clear()

    @staticmethod
    def _protect(access: int, edges: tuple[int, int]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        for edge in edges:
            assert libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(PAGE), access) == 0, ctypes.get_errno()


class Case(NamedTuple):
    g: geometry.ConvGeometry
    at_end: bool
    dtype: type
    seed: int


@st.composite
def cases(draw):
    """Draw small geometries of any kind: pads wider than the window, strides over whole windows, few and many channels."""
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 5]))
    c_in, c_out = draw(st.integers(1, 19)), draw(st.integers(1, 19))
    sizes, taps, strides, dilations, pads = [], [], [], [], []
    for axis in range(rank):
        k, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
        lo, hi = draw(st.integers(0, 6)), draw(st.integers(0, 6))
        least = max(1, dilation * (k - 1) + 1 - lo - hi)
        sizes.append(draw(st.integers(least, least + (25 if axis == rank - 1 else 5))))
        taps.append(k), strides.append(stride), dilations.append(dilation), pads.append((lo, hi))
    x_shape, w_shape = (draw(st.integers(1, 3)), groups * c_in, *sizes), (groups * c_out, c_in, *taps)
    g = geometry.conv(x_shape, w_shape, tuple(strides), tuple(pads), tuple(dilations), groups)
    return Case(g, draw(st.booleans()), draw(st.sampled_from([np.float32, np.float64])), draw(st.integers(0, 99)))


@pytest.mark.parametrize("name", ["direct", "winograd", "fft"])
@given(case=cases())
@settings(max_examples=40)
def test_nothing_beside_the_arrays_is_touched(name, case):
    g, memory = case.g, Guarded(case.at_end)
    try:
        method.refuse_misfit(name, g)
    except ValueError:
        return
    with pytest.MonkeyPatch.context() as patch:
        for module in (direct, gradient, winograd, winograd_gradient, fourier, _jit):
            for attribute, guarded in (("empty", memory.array), ("scratch", memory.scratch)):
                if hasattr(module, attribute):
                    patch.setattr(module, attribute, guarded)
        given_arrays = []
        for a in normals(case.seed, g.x_shape, g.w_shape, g.y_shape, dtype=case.dtype):
            given_arrays.append(memory.array(a.shape, a.dtype))
            given_arrays[-1][...] = a
        x, w, y = given_arrays
        for contraction, arrays in zip(CONTRACTIONS, ((x, w), (y, w), (x, y)), strict=True):
            result = getattr(method.by(name), contraction)(*arrays, g)
            reference = getattr(generic, contraction)(*(a.astype(np.float64) for a in arrays), g)
            np.testing.assert_allclose(result, reference, rtol=0, atol=1e-3 if case.dtype == np.float32 else 1e-10)
            del result
    del x, w, y, arrays, given_arrays
    memory.release()


def test_such_memory_is_protected():
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_conv_guarded import Guarded
import ctypes
import numpy as np
memory = Guarded(True)
a = memory.array(3, np.float32)
ctypes.c_float.from_address(a.ctypes.data + 8).value
print("inside", flush=True)
ctypes.c_float.from_address(a.ctypes.data + 12).value
print("beside", flush=True)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "inside\n"
    assert run.returncode < 0
