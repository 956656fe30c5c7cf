"""What runs where: every public operation, the libraries and dtypes it takes, and its gradient. Declared here, once.

`test_capabilities.py` holds the library to it, line by line; run as a script, this writes `docs/arrays.md`'s table.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

FLOATS = ("float32", "float64")
HALVES = ("float16", "bfloat16")
COMPLEX = ("complex64", "complex128")
INTEGERS = ("int8", "uint8", "int16", "int32", "int64")
REAL = (*FLOATS, *HALVES)
LINEAR = (*REAL, *COMPLEX, *INTEGERS)


class Op(NamedTuple):
    """An operation, an example of its arguments (arrays by shape or value, then keywords), and the dtypes it takes."""

    name: str
    arrays: tuple
    dtypes: tuple[str, ...] = REAL
    settings: Mapping[str, Any] = MappingProxyType({})
    also: tuple[str, ...] = ()  # dtypes of the value, which has no gradient in them
    gradient: bool = True


X, W, B = (2, 4, 7, 6), (6, 2, 3, 2), (6,)
CONV = {"stride": (2, 1), "padding": ((1, 0), 2), "dilation": (1, 2), "groups": 2}
Y = (2, 6, 3, 8)
LABELS = np.array([1, 0, 2, 1, 0, 2])

OPS = (
    Op("conv2d", (X, W, B), LINEAR, CONV),
    Op("conv2d", (X, W, B), LINEAR, {**CONV, "padding_mode": ("circular", "reflect"), "flip": True}),
    Op("conv1d", ((2, 3, 9), (4, 3, 2)), LINEAR),
    Op("conv3d", ((1, 2, 4, 3, 5), (2, 2, 2, 2, 3)), LINEAR),
    Op("conv", ((1, 1, 3, 3, 4, 3), (2, 1, 2, 2, 1, 3)), LINEAR),
    Op("conv_transpose2d", (Y, (6, 2, 3, 2)), LINEAR, {**CONV, "output_padding": (1, 0)}),
    Op("conv_input_grad", (Y, W), LINEAR, {"x_shape": X, **CONV}),
    Op("conv_weight_grad", (X, Y), LINEAR, {"w_shape": W, **CONV}),
    Op("conv_bias_grad", (Y,), LINEAR),
    Op("conv_transpose_input_grad", (X, W), LINEAR, {"x_shape": Y, **CONV}),
    Op("conv_transpose_weight_grad", (Y, X), LINEAR, {"w_shape": W, **CONV}),
    Op("conv_transpose_bias_grad", (Y,), LINEAR),
    Op("conv_per_sample_weight_grad", (X, Y), LINEAR, {"w_shape": W, **CONV}),
    Op("conv_transpose_per_sample_weight_grad", (Y, X), LINEAR, {"w_shape": W, **CONV}),
    Op("linear", ((4, 5), (3, 5), (3,)), LINEAR),
    Op("max_pool", (X,), settings={"window": (2, 3), "stride": (1, 2), "padding": 1}),
    Op("avg_pool", (X,), (*REAL, *COMPLEX), {"window": (2, 3), "stride": (1, 2), "padding": 1}),
    Op("avg_pool", (X,), (*REAL, *COMPLEX), {"window": (2, 3), "padding": 1, "padding_mode": "reflect"}),
    Op("global_avg_pool", (X,), (*REAL, *COMPLEX)),
    Op("adaptive_avg_pool", (X,), (*REAL, *COMPLEX), {"output_size": (3, 2)}),
    Op("resize", (X,), (*REAL, *COMPLEX), {"size": (5, 9), "mode": "linear"}),
    Op("pad", (X,), (*REAL, *COMPLEX), {"padding": ((1, 2), 3), "mode": ("reflect", "circular")}, INTEGERS),
    Op("unfold", (X,), (*REAL, *COMPLEX), {"window": (2, 3), "stride": (1, 2), "padding": 1}, INTEGERS),
    Op(
        "fold",
        ((2, 4, 2, 3, 8, 3),),
        (*REAL, *COMPLEX),
        {"size": (7, 6), "window": (2, 3), "stride": (1, 2), "padding": 1},
        INTEGERS,
    ),
    Op("conv_local", (X, (4, 2, 3, 2, 3, 8), (4, 3, 8)), LINEAR, CONV),
    Op("masked_conv", (X, W, B), settings=CONV),
    Op("batch_norm", (X, (4,), (4,))),
    Op("layer_norm", (X, (6,), (6,))),
    Op("group_norm", (X, (4,), (4,)), settings={"groups": 2}),
    Op("instance_norm", (X, (4,), (4,))),
    *(Op(name, (X,)) for name in ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus")),
    *(Op(name, (X,)) for name in ("softmax", "log_softmax")),
    *(Op(name, ((6, 3), (6, 3))) for name in ("mse_loss", "l1_loss", "huber_loss", "bce_with_logits_loss")),
    Op("cross_entropy_loss", ((6, 3), LABELS)),
    Op("gaussian_nll_loss", ((6, 3), (6, 3), (6, 3))),
    Op("gaussian_kl_loss", ((6, 3), (6, 3))),
    Op("reparameterize", ((6, 3), (6, 3), (6, 3))),
    Op("nt_xent_loss", ((6, 3), (6, 3)), settings={"temperature": 0.5}),
    Op("supcon_loss", ((6, 3), LABELS), settings={"temperature": 0.5}),
    Op("info_nce_loss", ((6, 3), (6, 3)), settings={"temperature": 0.5}),
    Op("contrastive_loss", ((6, 3), (6, 3), LABELS > 0)),
    Op("triplet_loss", ((6, 3), (6, 3), (6, 3))),
)


class Library(NamedTuple):
    """How to make an array of a library from NumPy's, and to read one back; `call` is what stands between caller and function."""

    title: str
    module: str
    make: Any
    read: Any = np.asarray
    call: Any = lambda f: f
    during: Any = nullcontext  # what its calls need around them
    dtypes: tuple[str, ...] = LINEAR  # those it has
    without: tuple[str, ...] = ()  # operations that it cannot do


def _torch(a):
    import torch

    return torch.from_numpy(a.astype(np.float32)).to(torch.bfloat16) if a.dtype.name == "bfloat16" else torch.from_numpy(a.copy())


def _from_torch(t):
    import torch

    return t.to(torch.float32).numpy() if t.dtype == torch.bfloat16 else t.numpy()


def _jax(a):
    import jax.numpy as jnp

    return jnp.asarray(a)


def _in_64_bits():
    import jax

    return jax.enable_x64(True)


def _jit(f):
    import jax

    return jax.jit(f)


def _dask(a):
    import dask.array as da

    return da.from_array(a, chunks=tuple(max(1, n - n // 2) for n in a.shape))


def _strict(a):
    import array_api_strict

    return array_api_strict.asarray(a)


def _cupy(a):
    import cupy

    return cupy.asarray(a)


def _on_a_gpu():
    """Use CuPy where it has a GPU; else its stand-in, whose kernels run on an emulator."""
    if HAS_GPU:
        return nullcontext()
    from tests.cuda_emulator.emulator import MISSING
    from tests.cuda_emulator.stand_in import stand_in

    return pytest.skip(MISSING) if MISSING else stand_in()


def _has_gpu():
    if find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.cuda.is_available())


HAS_GPU = _has_gpu()

# Labels pick entries: which, must be known when the function is called, and dask has no way to take them along an axis.
_BY_LABELS = ("cross_entropy_loss", "supcon_loss", "contrastive_loss")
LIBRARIES = {
    "numpy": Library("NumPy", "numpy", lambda a: a.copy()),
    "cupy": Library("CuPy", "cupy" if HAS_GPU else "numpy", _cupy, lambda a: a.get(), during=_on_a_gpu),
    "torch": Library("PyTorch", "torch", _torch, _from_torch),
    "jax": Library("JAX", "jax", _jax, during=_in_64_bits),
    "jit": Library("JAX under jit", "jax", _jax, call=_jit, during=_in_64_bits, without=_BY_LABELS),
    "dask": Library("dask", "dask.array", _dask, without=(*_BY_LABELS, "nt_xent_loss", "info_nce_loss")),
    "strict": Library("any other", "array_api_strict", _strict, dtypes=(*FLOATS, *COMPLEX, *INTEGERS)),
}


def supported(op, library):
    """Return the dtypes in which a library can do an operation."""
    known = LIBRARIES[library]
    return () if op.name in known.without else tuple(d for d in op.dtypes if d in known.dtypes)


def table():
    """Return the capabilities as a table in Markdown."""
    kinds = {"float": FLOATS, "16 bits": HALVES, "complex": COMPLEX, "integers": INTEGERS}
    lines = ["| operation | gradient | " + " | ".join(known.title for known in LIBRARIES.values()) + " |"]
    lines.append("| --- | --- |" + " --- |" * len(LIBRARIES))
    seen = set()
    for op in OPS:
        if op.name not in seen:
            cells = []
            for library in LIBRARIES:
                dtypes = supported(op, library)
                cells.append(", ".join(kind for kind, names in kinds.items() if set(names) <= set(dtypes)) or "no")
            lines.append(f"| `{op.name}` | {'yes' if op.gradient else 'itself one'} | {' | '.join(cells)} |")
        seen.add(op.name)
    return "\n".join(lines) + "\n"


PAGE = Path(__file__).parents[1] / "docs" / "arrays.md"
BEGIN, END = "<!-- capabilities -->\n", "<!-- end of capabilities -->\n"


def page():
    """Return the page of the documentation with the table as it is declared."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    return f"{before}\n{table()}\n{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
