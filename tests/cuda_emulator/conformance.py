"""What each PTX wrapper makes of known numbers: run on the emulator by the tests, and once on a GPU, which writes `golden.npz`.

The emulator's twins are other code than the PTX, so what they say is held here against the definition, and against a GPU's word
wherever there is one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numconv import _cuda

SOURCE = Path(__file__).with_suffix(".cu")
GOLDEN = Path(__file__).with_name("golden.npz")
SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 65504.0, 65519.9, 65520.0, 3.4e38, 6e-8, 2.98e-8, 1 + 2**-11, 1 + 3 * 2**-11]
)


class Fields(NamedTuple):
    """A struct of every kind of field that drawers use."""

    one: int
    half: float
    three: tuple[int, ...]
    two: tuple[float, ...]


FIELDS = Fields(2**40 + 1, 0.5, (-3, 5, 2**33), (0.25, -1e300))


def inputs() -> dict[str, Any]:
    """Return the arrays that the kernels are given; integers among them make products exact."""
    rng = np.random.default_rng(20)
    every = np.arange(2**16, dtype=np.uint16)
    floats = np.concatenate(
        [SPECIAL, rng.standard_normal(32 * 64 - len(SPECIAL)) * 10.0 ** rng.integers(-8, 8, 32 * 64 - len(SPECIAL))]
    )
    whole = {f"{kind}_whole": rng.integers(-8, 9, n).astype(np.float32) for kind, n in (("a", 256), ("b", 128), ("c", 128))}
    real = {f"{kind}_real": rng.standard_normal(n).astype(np.float32) for kind, n in (("a", 256), ("b", 128), ("c", 128))}
    return {
        "every": every,
        "floats": floats.astype(np.float32),
        "x": rng.standard_normal(288).astype(np.float32),
        **whole,
        **real,
    }


def outputs(xp: Any, like: Any) -> dict[str, Any]:
    """Run every kernel on the current backend; `xp` makes its arrays, `like` is one of them."""
    a = inputs()
    found: dict[str, Any] = {}

    def run(name: str, out: dict[str, Any], *given: Any, blocks: int = 1, threads: int = 32, shared: int = 0) -> None:
        results = {f"{name}_{key}" if key else name: xp.asarray(value) for key, value in out.items()}
        arrays = [value if isinstance(value, tuple) else xp.asarray(value) for value in given]
        with _cuda.on(like):
            program, device = _cuda.Program(SOURCE, name), _cuda.device(like)
            args = (*arrays, *results.values())
            _cuda.launch(program=program, device=device, grid=(blocks,), block=(threads,), args=args, shared=shared)
        found.update({key: value.get() for key, value in results.items()})

    run("fields", {"": np.zeros(7)}, FIELDS)
    wide = {"of_f16": np.zeros(2**16, np.float32), "of_bf16": np.zeros(2**16, np.float32)}
    run("widened_halves", wide, a["every"], a["every"], blocks=2**11)
    halves = {"f16": np.zeros(2048, np.uint16), "bf16": np.zeros(2048, np.uint16), "tf32": np.zeros(2048, np.uint32)}
    run("rounded", halves, a["floats"], blocks=64)
    run("copied", {"": np.full(224, 7, np.float32)}, a["x"][:128], shared=224 * 4)
    for kind in ("whole", "real"):
        given = [a[f"{letter}_{kind}"] for letter in "abc"]
        for name in ("tf32", "f16", "bf16"):
            run(name, {kind: given[2]}, fragments(given[0], name), fragments(given[1], name))
        run("f64", {kind: given[2][:64].astype(np.float64)}, given[0][:32].astype(np.float64), given[1][:32].astype(np.float64))
    numbers = np.arange(32 * 24, dtype=np.uint16)
    run("matrices", {"": np.zeros(128, np.uint32), "transposed": np.zeros(128, np.uint32)}, numbers, shared=32 * 24 * 2)
    out = {key: np.zeros(288, np.float32) for key in ("of_warp", "of_block", "most")}
    run("sums", out, a["x"], blocks=3, threads=96)
    return found


def fragments(a: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """Return numbers as the words of fragments: one of float32 each, or two of 16 bits."""
    if kind == "tf32":
        return a[: len(a) // 2].view(np.uint32)
    bits = a.astype(np.float16).view(np.uint16) if kind == "f16" else _bf16(a)
    return np.ascontiguousarray(bits).view(np.uint32)


def _bf16(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return bfloat16's bits, to the nearest, ties to even."""
    u = a.astype(np.float32).view(np.uint32)
    return np.where(np.isnan(a), 0x7FC0, (u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


def expected() -> dict[str, Any]:
    """Return by definition what the kernels should say; products in float64."""
    a = inputs()
    every, floats, x = a["every"], a["floats"], a["x"]
    said: dict[str, Any] = {"fields": np.array([FIELDS.one, FIELDS.half, *FIELDS.three, *FIELDS.two])}
    said["widened_halves_of_f16"] = every.view(np.float16).astype(np.float32)
    said["widened_halves_of_bf16"] = (every.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        said["rounded_f16"] = floats.astype(np.float16).view(np.uint16)
    said["rounded_bf16"] = _bf16(floats)
    said["rounded_tf32"] = (floats.view(np.uint32) + 0x1000) & 0xFFFFE000
    even = np.repeat(np.arange(32) % 2 == 0, 4)
    said["copied"] = np.concatenate([np.where(even[::step], x[: 128 // step], 0) for step in (1, 2, 4)])
    for kind in ("whole", "real"):
        of_a, of_b, of_c = (a[f"{letter}_{kind}"] for letter in "abc")
        for name in ("tf32", "f16", "bf16"):
            said[f"{name}_{kind}"] = _product(fragments(of_a, name), fragments(of_b, name), of_c, name)
        said[f"f64_{kind}"] = _product64(of_a[:32], of_b[:32], of_c[:64])
    rows = np.arange(32 * 24, dtype=np.uint32).reshape(4, 8, 24)[:, :, :8]
    for name, matrix in (("matrices", rows), ("matrices_transposed", rows.swapaxes(1, 2))):
        words = matrix[:, :, ::2] | matrix[:, :, 1::2] << 16  # of matrix m: [g][t]
        said[name] = words.reshape(4, 32).T.reshape(-1)
    warps, blocks = x.reshape(-1, 32), x.reshape(-1, 96)
    said["sums_of_warp"] = np.repeat(warps.sum(1, dtype=np.float64), 32)
    said["sums_of_block"] = np.repeat(blocks.sum(1, dtype=np.float64), 96)
    said["sums_most"] = np.repeat(warps.max(1), 32)
    return said


def _product(a: Any, b: Any, c: Any, kind: str) -> Any:
    """Return c + a b from fragments and to fragments, as `_ptx.cuh` lays them out."""
    lanes, deep = np.arange(32), 8 if kind == "tf32" else 16
    g, t = lanes // 4, lanes % 4
    left, right, sums = np.zeros((16, deep)), np.zeros((deep, 8)), np.zeros((16, 8))
    a, b, c = a.reshape(32, 4), b.reshape(32, 2), c.reshape(32, 4)
    for i in range(2):
        for j in range(2):
            sums[g + 8 * i, 2 * t + j] = c[:, 2 * i + j]
            for half in range(1 if kind == "tf32" else 2):
                k = t + 4 * j if kind == "tf32" else 2 * t + 8 * j + half
                left[g + 8 * i, k] = _read(a[:, i + 2 * j], kind, half)
                right[k, g] = _read(b[:, j], kind, half)
    full = sums + left @ right
    return np.stack([full[g + 8 * i, 2 * t + j] for i in range(2) for j in range(2)], 1).reshape(-1)


def _read(words: Any, kind: str, half: int) -> Any:
    if kind == "tf32":
        return (words & 0xFFFFE000).view(np.float32)
    bits = (words >> 16 * half & 0xFFFF).astype(np.uint16)
    return bits.view(np.float16) if kind == "f16" else (bits.astype(np.uint32) << 16).view(np.float32)


def _product64(a: Any, b: Any, c: Any) -> Any:
    lanes = np.arange(32)
    g, t = lanes // 4, lanes % 4
    left, right, sums = np.zeros((8, 4)), np.zeros((4, 8)), np.zeros((8, 8))
    left[g, t], right[t, g] = a, b
    for j in range(2):
        sums[g, 2 * t + j] = c.reshape(32, 2)[:, j]
    full = sums + left @ right
    return np.stack([full[g, 2 * t + j] for j in range(2)], 1).reshape(-1)


# NaN may have any bits: rounded numbers are compared as what they stand for.
_READ: dict[str, Any] = {
    "rounded_f16": lambda u: u.view(np.float16),
    "rounded_bf16": lambda u: (u.astype(np.uint32) << 16).view(np.float32),
    "rounded_tf32": lambda u: u.view(np.float32),
}


def disagreements(found: dict[str, Any], said: dict[str, Any]) -> dict[str, str]:
    """Return what is not as said, by name: bits must be equal, products of reals and sums within float32's rounding."""
    wrong = {}
    for name, e in said.items():
        f, e = (_READ.get(name, np.asarray)(a) for a in (found[name], e))
        close = name.endswith("_real") or name.startswith("sums_of")
        within = 2.0**-50 if name.startswith("f64") else 2.0**-19
        good = np.abs(f - e) <= within * (1 + np.abs(e)) if close else _same(f, e)
        if f.shape != e.shape or not np.all(good):
            first = np.argmin(good)
            wrong[name] = f"{np.sum(~good)} of {f.size} differ, the first at {first}: {f[first]} for {e[first]}"
    return wrong


def _same(f: Any, e: Any) -> Any:
    """Say where numbers are equal, or both NaN."""
    return (f == e) | (np.isnan(f) & np.isnan(e)) if f.dtype.kind == "f" else f == e
