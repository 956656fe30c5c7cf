"""The libraries we are measured against: which are installed, on as many threads as numconv, and the same work as their calls.

Import this before numconv: it sets how Numba's threads wait, and PyTorch's should wait as they do without us.
"""

import importlib
import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

NAMES = {"torch": "PyTorch", "scipy": "SciPy", "cv2": "OpenCV", "jax": "JAX"}
PACKAGES = {"torch": "torch", "scipy": "scipy", "cv2": "opencv-python-headless", "jax": "jax"}
MEMORY = 4 << 30  # bytes that a peer's call may ask for


class Side(NamedTuple):
    """A peer's call. `direct` says that its time grows with the taps, so that a small filter tells how long a large one takes."""

    call: Callable[[], Any]
    direct: bool = False
    memory: int = 0


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


torch, scipy, cv2, jax = map(_imported, NAMES)
MISSING = [NAMES[name] for name in NAMES if globals()[name] is None]


def set_threads(n: int) -> None:
    """Put the peers on `n` threads. JAX cannot be told: it takes all cores, so it takes part only where we do too."""
    global jax
    if torch:
        torch.set_num_threads(n)
    if cv2:
        cv2.setNumThreads(n)
    if n != os.cpu_count():
        jax = None


@contextmanager
def scipy_threads(n: int):
    """Let SciPy's Fourier transforms use `n` threads, which by themselves use one."""
    if scipy is None:
        yield
        return
    from scipy.fft import set_workers

    with set_workers(n):
        yield


def contraction(name: str, layer: Any, x: np.ndarray, w: np.ndarray, y: np.ndarray) -> dict[str, Side]:
    """Return y, x or w of a layer's convolution, by peer: each is the contraction of the two other arrays."""
    sides = {}
    if torch:
        # Without a oneDNN kernel for float64, PyTorch lays every window of an image out in memory, one image per thread at most.
        windows = layer.c_in * layer.taps**2 * layer.out[0] * layer.out[1] * 8 * min(layer.batch, torch.get_num_threads())
        sides["PyTorch"] = Side(_torch_contraction(name, layer, x, w, y), True, windows if x.dtype == np.float64 else 0)
    if jax:
        sides["JAX"] = Side(_jax_contraction(name, layer, x, w, y))
    return sides


def _torch_contraction(name, layer, x, w, y):
    tx, tw, ty = map(torch.from_numpy, (x, w, y))
    arguments = layer.arguments
    if name == "y":
        return lambda: torch.nn.functional.conv2d(tx, tw, None, **arguments)
    stride, padding, dilation = ([arguments[key]] * 2 for key in ("stride", "padding", "dilation"))
    mask = [name == "x", name == "w", False]
    backward, which = torch.ops.aten.convolution_backward, "xw".index(name)
    return lambda: backward(ty, tx, tw, None, stride, padding, dilation, False, [0, 0], layer.groups, mask)[which]


def _jax_contraction(name, layer, x, w, y):
    if x.dtype == np.float64:
        jax.config.update("jax_enable_x64", True)
    jx, jw, jy = map(jax.numpy.asarray, (x, w, y))

    def conv(a, b):
        return jax.lax.conv_general_dilated(
            a,
            b,
            [layer.stride] * 2,
            [(layer.padding, layer.padding)] * 2,
            rhs_dilation=[layer.dilation] * 2,
            feature_group_count=layer.groups,
        )

    if name == "y":
        compiled = jax.jit(conv)
        return lambda: compiled(jx, jw).block_until_ready()
    if name == "x":
        compiled = jax.jit(lambda b, c: jax.vjp(lambda a: conv(a, b), jx)[1](c)[0])
        return lambda: compiled(jw, jy).block_until_ready()
    compiled = jax.jit(lambda a, c: jax.vjp(lambda b: conv(a, b), jw)[1](c)[0])
    return lambda: compiled(jx, jy).block_until_ready()


def filtering(x: np.ndarray, w: np.ndarray) -> dict[str, Side]:
    """Correlate an image with a filter, zeros outside of it, the result of the image's size, by peer."""
    sides = {}
    if cv2:
        sides["OpenCV"] = Side(lambda: cv2.filter2D(x, -1, w, borderType=cv2.BORDER_CONSTANT), False)
    if scipy:
        from scipy import ndimage, signal

        turned = np.ascontiguousarray(w[::-1, ::-1])
        sides["ndimage.correlate"] = Side(lambda: ndimage.correlate(x, w, mode="constant"), True)
        sides["oaconvolve"] = Side(lambda: signal.oaconvolve(x, turned, "same"))
        sides["fftconvolve"] = Side(lambda: signal.fftconvolve(x, turned, "same"))
    if torch:
        tx, tw = torch.from_numpy(x)[None, None], torch.from_numpy(w)[None, None]
        windows = x.size * w.size * 8 if x.dtype == np.float64 else 0
        sides["PyTorch"] = Side(lambda: torch.nn.functional.conv2d(tx, tw, padding=len(w) // 2)[0, 0], True, windows)
    return sides


def signal_filtering(x: np.ndarray, w: np.ndarray) -> dict[str, Side]:
    """Correlate a signal with taps where both overlap fully, by peer. (lfilter gives the beginning too, which is cut off.)"""
    turned = w[::-1].copy()
    sides = {"np.convolve": Side(lambda: np.convolve(x, turned, "valid"), True)}
    if scipy:
        from scipy import signal

        sides["oaconvolve"] = Side(lambda: signal.oaconvolve(x, turned, "valid"))
        sides["lfilter"] = Side(lambda: signal.lfilter(turned, [1.0], x)[len(w) - 1 :], True)
    if torch:
        tx, tw = torch.from_numpy(x)[None, None], torch.from_numpy(w)[None, None]
        windows = x.size * w.size * 8 if x.dtype == np.float64 else 0
        sides["PyTorch"] = Side(lambda: torch.nn.functional.conv1d(tx, tw)[0, 0], True, windows)
    return sides


def forward_and_back(f: str, *arrays: np.ndarray, **settings: Any) -> dict[str, Side]:
    """Call a function of torch.nn.functional, and its gradients in all arrays for a cotangent of ones."""
    if not torch:
        return {}
    leaves = [torch.from_numpy(a).requires_grad_() for a in arrays]

    def call():
        y = getattr(torch.nn.functional, f)(*leaves, **settings)
        return torch.autograd.grad(y, leaves, torch.ones_like(y))

    return {"PyTorch": Side(call)}
