"""A stand-in for CuPy on NumPy's arrays, so that doors, drawers, layers and training run as they would on CuPy arrays.

As strict as CuPy where it matters: its arrays are not NumPy's, do not become them unasked, and do not mix with them; sums have no
axes rather than being numbers. Reading a value waits for a GPU, so each such reading is counted; so is each array that is sent
there. A stream that captures records what it is given, and refuses to read and to send, as CUDA does.

    with stand_in() as cupy:
        numconv.conv2d(cupy.asarray(x), cupy.asarray(w))
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import array_api_compat
import numpy as np

from numconv import _cuda

from .emulator import H200, Emulator
from .graph import Graph, forbidden

# NumPy's names that CuPy 14.2.0 has not, by `hasattr`: those that somebody might call.
LACKING = {
    np: "asmatrix block bmat emath errstate frompyfunc geomspace histogram_bin_edges insert longdouble ma matvec ndenumerate"
    " nditer object_ spacing strings unstack vecdot vecmat void",
    np.linalg: "diagonal matrix_norm multi_dot outer svdvals tensordot trace vecdot vector_norm",
    np.fft: "",
    np.ndarray: "ctypes getfield resize setfield setflags to_device",
}


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # the name that others ask for
    """An array on a device that is not there."""

    readings = 0  # of values by the host: each waits for all that the device has been given to do
    sent = 0  # arrays of the host that were copied to the device

    def __init__(self, a: Any) -> None:
        self.on_host = np.asarray(a)
        self.index = Device().id  # of the device it is on

    dtype = property(lambda self: self.on_host.dtype)
    shape = property(lambda self: self.on_host.shape)
    ndim = property(lambda self: self.on_host.ndim)
    size = property(lambda self: self.on_host.size)
    device = property(lambda self: Device(self.index))

    @property
    def real(self) -> ndarray:
        return ndarray(self.on_host.real)

    @real.setter
    def real(self, value: Any) -> None:
        self.on_host.real = _host(value)

    @property
    def imag(self) -> ndarray:
        return ndarray(self.on_host.imag)

    @imag.setter
    def imag(self, value: Any) -> None:
        self.on_host.imag = _host(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return _called(getattr(ufunc, method), inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _called(function, args, kwargs)

    def __dlpack__(self, **asked: Any) -> Any:
        return self.on_host.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.on_host.__dlpack_device__()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in LACKING[np.ndarray].split():
            raise AttributeError(name)
        return _seen(getattr(self.on_host, name))

    def __getitem__(self, key: Any) -> Any:
        return ndarray(_done(operator.getitem, (self.on_host, _host(key)), {}))

    def __setitem__(self, key: Any, value: Any) -> None:
        later = graph.later if (graph := _capturing()) else lambda f, *args: f(*args)
        later(operator.setitem, self.on_host, _host(key), _host(value))

    def __len__(self) -> int:
        return len(self.on_host)

    def __iter__(self) -> Iterator[Any]:
        return (ndarray(a) for a in self.on_host)

    def __repr__(self) -> str:
        return f"on device: {self.on_host!r}"

    def get(self, *args: Any, **kwargs: Any) -> Any:
        return self._read(np.copy)

    def item(self, *args: Any) -> Any:
        return self._read(lambda a: a.item(*args))

    def tolist(self) -> Any:
        return self._read(np.ndarray.tolist)

    def __float__(self) -> float:
        return self._read(float)

    def __int__(self) -> int:
        return self._read(int)

    def __bool__(self) -> bool:
        return self._read(bool)

    def _read(self, how: Any) -> Any:
        _wait()
        return how(self.on_host)


class Device:
    """One of the devices, as a context and as a name: those entered, the current one last."""

    entered: ClassVar[list[int]] = [0]

    def __init__(self, index: Any = None) -> None:
        self.id = Device.entered[-1] if index is None else int(index)

    def __enter__(self) -> Device:
        Device.entered.append(self.id)
        return self

    def __exit__(self, *raised: object) -> None:
        Device.entered.pop()

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return self.id

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def synchronize(self) -> None:
        _wait()


class Stream:
    """A queue of work, as a context: those entered, the current one last."""

    current: ClassVar[list[Stream]] = []

    def __init__(self, ptr: int, device: int = -1) -> None:
        self.ptr, self.graph = ptr, None

    def __enter__(self) -> Stream:
        Stream.current.append(self)
        return self

    def __exit__(self, *raised: object) -> None:
        Stream.current.pop()

    def synchronize(self) -> None:
        _wait()

    def begin_capture(self, mode: Any = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.graph = Graph()

    def end_capture(self) -> Graph:
        graph, self.graph = self.graph, None
        return graph


class OwnStream(Stream):
    """A new queue."""

    null = Stream(0)
    pointers = count(1)

    def __init__(self, *, non_blocking: bool = False) -> None:
        super().__init__(next(OwnStream.pointers))


class StandInBackend(Emulator):
    """The emulator, for these arrays."""

    def on(self, a: Any) -> Any:
        return a.device

    def compile(self, program: Any, device: Any) -> Any:
        kernel = super().compile(program, device)

        def launched(*args: Any) -> None:
            later = graph.later if (graph := _capturing()) else lambda f, *args: f(*args)
            later(kernel, *args)

        return launched

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return ndarray(super().empty(shape, dtype))

    def contiguous(self, a: Any) -> Any:
        copy = self.empty(a.shape, a.dtype)
        copy[...] = a
        return copy

    def put(self, a: Any) -> Any:
        _send()
        return ndarray(super().put(a))

    def stream(self) -> int:
        return _stream().ptr


@contextmanager
def stand_in(seed: int = 0, gpu: _cuda.Device = H200) -> Iterator[Any]:
    """Let `import cupy` find the stand-in, and kernels run on the emulator."""
    modules, real = _modules(), _of_cupy()
    try:
        _put(modules, real)
        with mock.patch.object(_cuda, "backend", StandInBackend(seed, gpu)):
            yield modules["cupy"]
    finally:
        modules.update(_of_cupy())  # those made for the stand-in in the meantime: the same ones the next time
        _put(real, modules)


def _put(these: dict[str, ModuleType], instead: dict[str, ModuleType]) -> None:
    """Let these modules be found, as those imported and as what `array_api_compat` knows by the name of cupy."""
    for name in instead:
        del sys.modules[name]
    sys.modules.update(these)
    vars(array_api_compat).pop("cupy", None)
    if "array_api_compat.cupy" in these:
        array_api_compat.cupy = these["array_api_compat.cupy"]


def _of_cupy() -> dict[str, ModuleType]:
    """Return the modules that are CuPy's or know of it alone; all others stay where they are."""
    return {
        name: m for name, m in sys.modules.items() if name.partition(".")[0] == "cupy" or name.startswith("array_api_compat.cupy")
    }


@cache
def _modules() -> dict[str, ModuleType]:
    cupy, linalg, fft = ModuleType("cupy"), ModuleType("cupy.linalg"), ModuleType("cupy.fft")
    for module, of in ((cupy, np), (linalg, np.linalg), (fft, np.fft)):
        for name in dir(of):
            if not name.startswith("_") and name not in LACKING[of].split():
                setattr(module, name, _seen(getattr(of, name)))
        module.__all__ = [name for name in vars(module) if not name.startswith("_")]  # type: ignore[attr-defined]
    cupy.__version__ = "14.2.0"  # type: ignore[attr-defined]
    cupy.__path__ = []  # type: ignore[attr-defined]
    cupy.ndarray = ndarray  # type: ignore[attr-defined]
    cupy.linalg, cupy.fft = linalg, fft  # type: ignore[attr-defined]
    cupy.asarray = cupy.array = _asarray  # type: ignore[attr-defined]
    cupy.asnumpy = lambda a: a.get()  # type: ignore[attr-defined]
    cupy.from_dlpack = lambda a: ndarray(np.from_dlpack(a))  # type: ignore[attr-defined]
    no_memory = SimpleNamespace(OutOfMemoryError=type("OutOfMemoryError", (MemoryError,), {}))
    compiler = SimpleNamespace(CompileException=type("CompileException", (Exception,), {}))
    cuda, device = ModuleType("cupy.cuda"), ModuleType("cupy.cuda.device")
    device.Device = Device  # type: ignore[attr-defined]
    vars(cuda).update(
        Device=Device,
        device=device,
        Stream=OwnStream,
        ExternalStream=Stream,
        get_current_stream=_stream,
        MemoryPool=lambda: SimpleNamespace(malloc=None),
        using_allocator=lambda allocator: nullcontext(),
        memory=no_memory,
        compiler=compiler,
        runtime=SimpleNamespace(CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {})),
        is_available=lambda: True,
    )
    cupy.cuda = cuda  # type: ignore[attr-defined]
    return {"cupy": cupy, "cupy.linalg": linalg, "cupy.fft": fft, "cupy.cuda": cuda, "cupy.cuda.device": device}


def _asarray(a: Any, dtype: Any = None, copy: bool | None = None, **how: Any) -> ndarray:
    """Bring what is on the host to the device, or leave what is there."""
    if not isinstance(a, ndarray):
        made = np.array(a, dtype, **how)
        if made.ndim:  # a single number goes with the kernel that fills the array
            _send()
        return _called(np.array, (made[()], made.dtype), {}) if made.ndim == 0 else ndarray(made)
    if not copy and np.asarray(a.on_host, dtype, **how) is a.on_host:
        return a
    return _called(np.array, (a, dtype), how)


def _stream() -> Stream:
    return Stream.current[-1] if Stream.current else OwnStream.null


def _capturing() -> Graph | None:
    """Return what records the work of the current stream, if it is capturing."""
    return _stream().graph


def _wait() -> None:
    forbidden(_capturing(), "synchronous API calls")
    ndarray.readings += 1


def _send() -> None:
    forbidden(_capturing(), "H2D transfers")
    ndarray.sent += 1


def _seen(value: Any) -> Any:
    """Return something of NumPy's as CuPy has it: functions take and return its own arrays."""
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(value)
    if isinstance(value, (type, ModuleType)) or not callable(value):
        return value

    def function(*args: Any, **kwargs: Any) -> Any:
        return _called(value, args, kwargs)

    function.__name__ = getattr(value, "__name__", "function")
    return function


def _called(function: Any, args: Any, kwargs: Any) -> Any:
    if getattr(function, "__name__", "") in ("concatenate", "concat", "stack") and len(args[0]) > 8:
        _send()  # the addresses of so many, for one kernel
    return _wrapped(_done(function, _host(tuple(args)), {name: _host(a) for name, a in kwargs.items()}))


def _done(function: Any, args: Any, kwargs: Any) -> Any:
    """Return the result of a function of NumPy's arrays, or the memory where it will be."""
    graph = _capturing()
    return function(*args, **kwargs) if graph is None else graph.result(function, args, kwargs)


def _host(a: Any) -> Any:
    if isinstance(a, ndarray):
        if a.device.id != (current := Device().id):
            raise ValueError(
                f"The device where the array resides ({a.device.id}) is different from the current device ({current}). "
                "Peer access is unavailable between these devices."
            )
        return a.on_host
    if isinstance(a, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return type(a)(map(_host, a)) if type(a) in (tuple, list) else a


def _wrapped(result: Any) -> Any:
    if isinstance(result, (np.ndarray, np.generic)):
        return ndarray(result)
    return type(result)(map(_wrapped, result)) if type(result) in (tuple, list) else result
