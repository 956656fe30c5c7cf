"""What `_cuda` asks of CuPy and NVRTC, without either; and what doors do with arrays on a GPU, on a stand-in for it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

import numconv
from numconv import _cuda, _kept, _nvrtc

from .cuda_emulator.emulator import H200, MISSING
from .cuda_emulator.stand_in import ndarray, stand_in

PROGRAM = _cuda.Program("source", "k", (("Stored", "float"),))


class _Cupy(SimpleNamespace):
    """As much of CuPy as the backend calls; `failing` is what compiling raises."""

    class CompileException(Exception):
        pass

    class OutOfMemoryError(MemoryError):
        pass

    class CUDARuntimeError(RuntimeError):
        def __init__(self, status):
            self.status = status
            super().__init__(f"CUDA says {status}")

    def __init__(self, failing=None):
        properties = {"name": b"H200", "major": 9, "minor": 0, "multiProcessorCount": 132, "sharedMemPerBlockOptin": 232448}
        cuda = SimpleNamespace(
            compiler=SimpleNamespace(CompileException=self.CompileException),
            memory=SimpleNamespace(OutOfMemoryError=self.OutOfMemoryError),
            runtime=SimpleNamespace(getDeviceProperties=lambda index: properties),
        )
        super().__init__(failing=failing, cuda=cuda, asked=[], launched=[], function=SimpleNamespace())

    def RawModule(self, **asked):
        if self.failing:
            raise self.failing
        self.asked.append(asked)
        cupy = self

        class Function:
            max_dynamic_shared_size_bytes = 49152

            def __call__(self, *args, shared_mem):
                cupy.launched.append((args, shared_mem, self.max_dynamic_shared_size_bytes))

        return SimpleNamespace(get_function=lambda name: Function())

    def empty(self, shape, dtype):
        raise self.failing or self.OutOfMemoryError("Out of memory allocating 8 bytes")

    ascontiguousarray = asarray = lambda self, a: self.empty(a.shape, a.dtype)


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", _cuda.CupyBackend())
    monkeypatch.setitem(sys.modules, "cupy", cupy := _Cupy())
    _cuda._properties.cache_clear()
    yield cupy
    _cuda._properties.cache_clear()


class Numbers(NamedTuple):
    count: int
    sizes: tuple[int, ...]
    scale: float


def test_what_cupy_is_asked_for(cupy, monkeypatch, tmp_path):
    monkeypatch.setattr(_nvrtc, "missing", lambda: None)
    monkeypatch.setattr(_nvrtc, "kept_cubin", lambda *made_of: tmp_path / "-".join(map(str, made_of)))
    a = SimpleNamespace(device=SimpleNamespace(id=0))
    numbers = Numbers(7, (1, 2), 0.5)
    for shared in (100, 60_000):
        _cuda.launch(program=PROGRAM, device=_cuda.device(a), grid=(5, 2), block=(64,), args=(a, None, numbers), shared=shared)
    assert cupy.asked == [{"path": str(tmp_path / "source-sm_90a-('-std=c++17', '-DStored=float')")}]
    ((grid, block, args), shared, most), (_, shared_2, most_2) = cupy.launched
    assert (grid, block, shared, most, shared_2, most_2) == ((5, 2), (64,), 100, 49152, 60_000, 60_000)
    assert args[:2] == (a, None)  # None is CuPy's null pointer
    assert args[2].tobytes() == np.array([7, 1, 2], "i8").tobytes() + np.array(0.5).tobytes()
    assert args[2].shape == ()  # CuPy passes NumPy arrays of one element by value


def test_without_nvrtc_cupy_compiles(cupy, monkeypatch):
    monkeypatch.setattr(_nvrtc, "missing", lambda: "no NVRTC")
    _cuda.CupyBackend().compile(PROGRAM, H200)
    assert cupy.asked == [{"code": "source", "options": ("-std=c++17", "-DStored=float")}]


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (_Cupy.CompileException("kern.cu(1): error"), "k does not compile for sm_90a with .*-DStored=float.*report.*kern.cu"),
        (_nvrtc.CompileError("kern.cu(1): error"), "k does not compile for sm_90a with .*-DStored=float.*report.*kern.cu"),
        (RuntimeError("cudaErrorInsufficientDriver"), "cudaErrorInsufficientDriver; needed an NVIDIA driver"),
        (OSError("libnvrtc.so.13"), "libnvrtc.so.13; needed an NVIDIA driver"),
    ],
)
def test_what_cupy_refuses(cupy, monkeypatch, failing, said):
    monkeypatch.setattr(_nvrtc, "missing", lambda: "no NVRTC")
    cupy.failing = failing
    with pytest.raises(RuntimeError, match=f"(?s){said}") as caught:
        _cuda.CupyBackend().compile(PROGRAM, H200)
    assert caught.value.__cause__ is failing


def test_an_old_gpu(cupy):
    with pytest.raises(RuntimeError, match=r"GTX 1080 has compute capability 6\.1; needed 7\.5 or newer"):
        _cuda.CupyBackend().compile(PROGRAM, H200._replace(name="GTX 1080", capability=(6, 1)))


def test_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"need CuPy; install numconv\[cuda13\]"):
        _cuda.CupyBackend().compile(PROGRAM, H200)


def test_out_of_memory_says_for_what(cupy):
    with pytest.raises(
        MemoryError, match=r"no 800 bytes on the GPU for the sums of contract_w, shape \(2, 50\) of float64: Out of"
    ):
        _cuda.empty((2, 50), "f8", what="the sums of contract_w")


def test_out_of_memory_without_a_pool(cupy):
    cupy.failing = cupy.CUDARuntimeError(2)
    with pytest.raises(MemoryError, match=r"no 8 bytes on the GPU for the sums, shape \(2,\) of float32: CUDA says 2"):
        _cuda.empty((2,), "f4", what="the sums")
    cupy.failing = cupy.CUDARuntimeError(700)
    with pytest.raises(cupy.CUDARuntimeError, match="700"):
        _cuda.empty((2,), "f4", what="the sums")


def test_out_of_memory_for_a_copy(cupy):
    with pytest.raises(MemoryError, match=r"no 48 bytes on the GPU for a contiguous copy, shape \(2, 3\) of float64: Out of"):
        _cuda.contiguous(np.ones((2, 3)))
    with pytest.raises(MemoryError, match="Out of"):
        _cuda.backend.put(np.ones(3))


@pytest.mark.parametrize(
    ("grid", "block", "shared"), [((2**31,), (32,), 0), ((1, 65536), (32,), 0), ((1,), (2048,), 0), ((1,), (32,), 300_000)]
)
def test_a_launch_too_large(grid, block, shared):
    with pytest.raises(ValueError, match=r"k needs a grid of .* emulated H200 runs .* 232448 bytes: split"):
        _cuda.launch(program=PROGRAM, device=H200, grid=grid, block=block, args=(), shared=shared)


def test_a_header_is_there_once():
    text = _cuda.assembled('#include "_numbers.cuh"\n#include "_ptx.cuh"\nend\n')
    assert text.count("struct bf16") == text.count("#ifndef NUMCONV_EMULATED") == 1
    assert "#include" not in text


@pytest.mark.skipif(_nvrtc.missing() is not None, reason=str(_nvrtc.missing()))
def test_machine_code_is_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(_kept, "folder", lambda: tmp_path)
    source = 'extern "C" __global__ void k(int* a) { a[0] = 1; }'
    first = _nvrtc.kept_cubin(source, "sm_90a", ())
    assert first.read_bytes().startswith(b"\x7fELF")
    monkeypatch.setattr(_nvrtc, "cubin", None)
    assert _nvrtc.kept_cubin(source, "sm_90a", ()) == first
    assert list(tmp_path.iterdir()) == [first]


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_arrays_of_the_stand_in():
    x, w = np.random.default_rng(0).random((2, 3, 5, 6)), np.random.default_rng(1).random((4, 3, 3, 3))
    with stand_in() as cupy:
        on_device = cupy.asarray(x)
        y, pullback = numconv.conv2d_vjp(on_device, cupy.asarray(w), padding="same")
        dx, dw = pullback(y)
        assert all(isinstance(a, ndarray) for a in (y, dx, dw))
        assert _cuda.backend.launches >= 3
        readings = ndarray.readings
        np.testing.assert_allclose(y.get(), numconv.conv2d(x, w, padding="same"), rtol=1e-12)
        assert ndarray.readings == readings + 1
        with pytest.raises(TypeError, match="one library"):
            numconv.conv2d(on_device, w)
        with pytest.raises(TypeError, match="Implicit conversion"):
            np.asarray(on_device)
        with pytest.raises(TypeError, match="Unsupported type"):
            on_device + x
        assert (on_device + on_device).sum().shape == ()
    assert "cupy" not in sys.modules or not isinstance(sys.modules["cupy"].ndarray, ndarray)


def elsewhere(a):
    """Return an array of the stand-in that says it is on the second GPU."""
    other = ndarray(a.on_host)
    other.index = 1
    return other


def test_arrays_on_two_devices():
    said = "one device, got x: <CUDA Device 0>, w: <CUDA Device 1>"
    with stand_in() as cupy:
        x, w = cupy.asarray(np.ones((2, 3, 5, 6))), cupy.asarray(np.ones((4, 3, 3, 3)))
        for f in (numconv.conv2d, numconv.conv2d_vjp):
            with pytest.raises(TypeError, match=said):
                f(x, elsewhere(w))
        with pytest.raises(TypeError, match="one device, got prediction: <CUDA Device 0>, target: <CUDA Device 1>"):
            numconv.mse_loss(x, elsewhere(x))


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_arrays_that_are_not_on_the_current_device():
    """CuPy computes and allocates on its current device: elsewhere, part of a function would run on the wrong one."""
    functions = (
        numconv.relu,
        numconv.softmax,
        lambda x: numconv.max_pool(x, 2),
        lambda x: numconv.pad(x, 1),
        lambda x: numconv.mse_loss(x, x),
    )
    with stand_in() as cupy:
        with cupy.cuda.Device(1):
            x = cupy.asarray(np.ones((2, 3, 5, 6)))
            w = cupy.asarray(np.ones((4, 3, 3, 3)))
            y, pullback = numconv.conv2d_vjp(x, w)
            assert {a.device.id for a in (y, *pullback(y), *(f(x) for f in functions))} == {1}
        with pytest.raises(TypeError, match=r"x is on <CUDA Device 1>; needed CuPy's current device, .* 0>, or `with x.device:`"):
            numconv.conv2d(x, w)
        for f in (*functions, pullback):
            with pytest.raises(TypeError, match="needed CuPy's current device"):
                f(x)


def test_two_kinds_of_16_bits_do_not_mix():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with stand_in() as cupy:
        x, w = cupy.asarray(np.ones((2, 3, 5), np.float16)), cupy.asarray(np.ones((4, 3, 3), ml_dtypes.bfloat16))
        with pytest.raises(TypeError, match="dtypes without a common one: x is float16, w is bfloat16"):
            numconv.conv1d(x, w)


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_cotangent_or_out_on_another_device():
    with stand_in() as cupy:
        x, w = cupy.asarray(np.ones((2, 3, 5, 6))), cupy.asarray(np.ones((4, 3, 3, 3)))
        y, pullback = numconv.conv2d_vjp(x, w)
        with pytest.raises(TypeError, match=r"cotangent is on <CUDA Device 1>; needed CuPy's current device, <CUDA Device 0>"):
            pullback(elsewhere(y))
        with (
            cupy.cuda.Device(1),
            pytest.raises(TypeError, match="the cotangent is on <CUDA Device 1>, the value on <CUDA Device 0>"),
        ):
            pullback(elsewhere(y))
        loss_pullback = numconv.mse_loss_vjp(x, x)[1]
        with cupy.cuda.Device(1), pytest.raises(TypeError, match="on <CUDA Device 1>, the value on <CUDA Device 0>"):
            loss_pullback()
        out = elsewhere(cupy.asarray(np.zeros(y.shape)))
        with pytest.raises(TypeError, match="one device, got x: <CUDA Device 0>, out: <CUDA Device 1>"):
            numconv.conv2d(x, w, out=out)
        assert not out.on_host.any()


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_without_memory_nothing_is_written(monkeypatch):
    with stand_in() as cupy:
        x, w = cupy.asarray(np.ones((2, 3, 5, 6))), cupy.asarray(np.ones((4, 3, 3, 3)))
        out = cupy.asarray(np.full((2, 4, 3, 4), 7.0))

        def full(shape, dtype):
            raise MemoryError("the GPU is full")

        monkeypatch.setattr(_cuda.backend, "empty", full)
        with pytest.raises(MemoryError, match=r"no 768 bytes on the GPU for the answer of contract_y, .* the GPU is full"):
            numconv.conv2d(x, w, out=out)
        assert (out.on_host == 7).all()


def test_libraries_do_not_mix():
    with stand_in() as cupy:
        x, w = cupy.asarray(np.ones((2, 3, 5, 6))), np.ones((4, 3, 3, 3))
        with pytest.raises(TypeError, match=r"one library, got x: .*ndarray, w: numpy\.ndarray"):
            numconv.conv2d(x, w)
