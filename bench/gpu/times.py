"""Times of layers and training steps beside PyTorch's cuDNN, and the two ceilings of the machine.

PyTorch is called as by default (NCHW) and with channels_last, its TF32 setting matched to the row; its kernels run on the same
stream as ours, the default one. Only its channels_last time says whether cuDNN is beaten.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from tables import NETS, Layer

from numconv.conv import geometry

from . import clock
from .checks import GIVEN, drawer
from .environment import torch_on_gpu

# What is timed, and what PyTorch is asked for beside it: dtype, our precision, whether cuDNN may use TF32.
KINDS = {
    "bf16": ("bfloat16", "default", False),
    "fp16": ("float16", "default", False),
    "tf32": ("float32", "tf32", True),
    "fp32": ("float32", "default", False),
    "fp64": ("float64", "default", False),
}
BATCH = {4: 32, 2: 16}  # layers of the CPU's table, at a batch that fills a GPU


def run(cupy: Any, until: float, *, small: bool) -> dict[str, Any]:
    """Time rows until the clock says `until`; those left out are named."""
    torch = None if small else torch_on_gpu()
    if torch is not None:
        torch.backends.cudnn.benchmark = True
    results: dict[str, Any] = {"ceilings": {}, "rows": [], "left_out": [], "wrong": {}}
    try:
        results["ceilings"] = {} if small else _ceilings(cupy)
    except Exception as error:
        results["wrong"]["ceilings"] = f"{type(error).__name__}: {error}"
    for kind in ("fp32",) if small else KINDS:
        for name, layer in layers(small).items():
            for contraction in GIVEN:
                if time.monotonic() > until:
                    results["left_out"].append(f"{name}, {kind}, {contraction}")
                    continue
                try:
                    results["rows"].append({"row": name, "kind": kind, **_row(cupy, torch, layer, kind, contraction, small)})
                except Exception as error:  # one row's trouble is that row's
                    results["wrong"][f"time of {name}, {kind}, {contraction}"] = f"{type(error).__name__}: {error}"
                _release(cupy, torch)
    from .training import steps

    if time.monotonic() < until:
        try:
            results["training"] = steps(cupy, torch, emulated=small)
        except Exception as error:
            results["wrong"]["training"] = f"{type(error).__name__}: {error}"
    return results


def layers(small: bool) -> dict[str, Layer]:
    """Return the layers of networks at a batch that fills a GPU; `small`, one that an emulator can do."""
    if small:
        return {"14 3x3 8": Layer(1, 8, 14, 14, 8, 3, 1, 1)}
    return {name: layer._replace(batch=BATCH.get(layer.batch, layer.batch)) for name, layer in NETS.items()}


def geometry_of(layer: Layer) -> Any:
    """Return the geometry of a layer."""
    x, w = (layer.batch, layer.c_in, layer.height, layer.width), (layer.c_out, layer.c_in // layer.groups, layer.taps, layer.taps)
    return geometry.conv(x, w, layer.stride, layer.padding, layer.dilation, layer.groups)


def _row(cupy: Any, torch: Any, layer: Layer, kind: str, name: str, emulated: bool) -> dict[str, Any]:
    """Return the times of one contraction of a layer, by side: with and without bias where there is one."""
    dtype, precision, tf32 = KINDS[kind]
    g = geometry_of(layer)
    width = {"float32": 4, "float64": 8}.get(dtype, 2)
    sets = 1 if emulated else clock.copies(layer.numbers * width)
    sides: dict[str, Any] = {}
    for last in (False, True):
        of = "channels_last" if last else "NCHW"
        ours = [arrays(cupy, g, dtype, last) for _ in range(sets)]
        kernels = drawer(cupy, ours[0]["x"], precision)
        sides[f"numconv {of}"] = [_ours(kernels, name, a, g, None) for a in ours]
        if name == "contract_y":
            sides[f"numconv {of} bias"] = [_ours(kernels, name, a, g, a["b"]) for a in ours]
        if torch is not None:
            theirs = [_theirs(torch, a, last) for a in ours]
            sides[f"cuDNN {of}"] = [_cudnn(torch, name, layer, a, None, tf32) for a in theirs]
            if name == "contract_y":
                sides[f"cuDNN {of} bias"] = [_cudnn(torch, name, layer, a, a["b"], tf32) for a in theirs]
    seconds = clock.medians(sides, emulated=emulated)
    return {"contraction": name, "flops": layer.flops, "bytes": layer.numbers * width, "seconds": seconds}


def arrays(cupy: Any, g: Any, dtype: str, last: bool) -> dict[str, Any]:
    """Return x, w, y and a bias in NCHW order, lying in memory so or with channels last."""
    from .checks import _dtype

    rng = cupy.random.default_rng() if hasattr(cupy.random, "default_rng") else np.random.default_rng(0)
    made = {}
    for letter, shape in {"x": g.x_shape, "w": g.w_shape, "y": g.y_shape, "b": g.y_shape[1:2]}.items():
        a = cupy.asarray(rng.standard_normal(shape, dtype=np.float32)).astype(_dtype(dtype))
        if last and len(shape) == 4:
            a = cupy.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        made[letter] = a
    return made


def _ours(kernels: Any, name: str, a: dict[str, Any], g: Any, b: Any) -> clock.Call:
    first, second = (a[letter] for letter in GIVEN[name])
    f = getattr(kernels, name)
    return (lambda: f(first, second, g)) if b is None else (lambda: f(first, second, g, b))


def _theirs(torch: Any, a: dict[str, Any], last: bool) -> dict[str, Any]:
    """Return arrays as PyTorch's tensors, of the memory format they have."""
    made = {}
    for letter, array in a.items():
        bits = array.dtype.itemsize == 2 and array.dtype != np.float16
        t = torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16) if bits else torch.from_dlpack(array)
        made[letter] = t.contiguous(memory_format=torch.channels_last) if last and t.ndim == 4 else t
    return made


def _cudnn(torch: Any, name: str, layer: Layer, a: dict[str, Any], b: Any, tf32: bool) -> clock.Call:
    pairs = [[n] * 2 for n in (layer.stride, layer.padding, layer.dilation)]
    if name == "contract_y":
        arguments = (a["x"], a["w"], b, *pairs, False, [0, 0], layer.groups)
        f = torch.ops.aten.convolution
    else:
        mask = [name == "contract_x", name == "contract_w", False]
        arguments = (a["y"], a["x"], a["w"], None, *pairs, False, [0, 0], layer.groups, mask)
        f = torch.ops.aten.convolution_backward

    def call() -> Any:
        torch.backends.cudnn.allow_tf32 = tf32
        return f(*arguments)

    return call


def _ceilings(cupy: Any) -> dict[str, float]:
    """Measure what moves and what multiplies on this GPU: a large copy, and CuPy's (cuBLAS's) products of matrices."""
    found = {"copy, bytes/s": _copy_rate(cupy)}
    for dtype, n in (("float16", 8192), ("float32", 8192), ("float64", 4096)):
        m = cupy.random.standard_normal((n, n), dtype=cupy.float32).astype(dtype)
        found[f"{dtype} product, flop/s"] = 2 * n**3 / clock.medians({"": [lambda m=m: m @ m]}, emulated=False)[""]
    return found


def _copy_rate(cupy: Any) -> float:
    a, b = cupy.random.standard_normal((1 << 28,), dtype=cupy.float32), cupy.empty(1 << 28, cupy.float32)
    return 2 * a.nbytes / clock.medians({"": [lambda: cupy.copyto(b, a)]}, emulated=False)[""]


def _release(cupy: Any, torch: Any) -> None:
    """Give memory back between rows: the two libraries keep pools of their own."""
    if torch is not None:
        cupy.get_default_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()
