"""`python -m bench.gpu`: rehearsed on the emulator, and what it says where there is no GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.stand_in import stand_in

ROOT = Path(__file__).parents[1]


def run_python(*arguments):
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False)


def run(*arguments):
    return run_python("-m", "bench.gpu", *arguments)


# As on a machine that has CuPy, and nothing else that numconv or this checkout would like.
BARE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("numba", "llvmlite", "pytest", "scipy", "torch", "safetensors")))
sys.argv[0] = "bench.gpu"
runpy.run_module("bench.gpu", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_a_rehearsal_on_a_bare_machine(tmp_path):
    ended = run_python(
        "-c", BARE, "--emulate", "--out", tmp_path / "report", "--parts", "wrappers", "checks", "graph", "times", "tune"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    results = json.loads((tmp_path / "report" / "gpu.json").read_text())
    page = (tmp_path / "report" / "benchmarks-gpu.md").read_text()
    assert results["wrong"] == {}
    assert results["wrappers"]["kernels"] >= 20
    assert {row["dtype"] for row in results["checks"]["rows"]} == {"float32", "float64", "float16", "bfloat16"}
    assert len(results["times"]["rows"]) == 3
    assert results["graph"]["steps"] == 5
    assert "5 replays held to eager steps" in page
    assert "**A rehearsal on an emulator: no figure here is a GPU's.**" in page
    assert len({row["problem"] for row in results["tune"]["rows"]}) == 6
    table = json.loads((tmp_path / "report" / "emulated-h200.json").read_text())
    assert len(table["choices"]) == 6
    assert set(table["factors"]) == {row["factor"] for row in results["tune"]["rows"]}
    assert not (tmp_path / "report" / "golden.npz").exists()  # only a GPU's word is gold


def test_what_is_wrong_is_said(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    page = importlib.import_module("bench.gpu.report").page
    about = {"about": {"GPU": "one"}, "emulated": False, "seconds": {"checks": 1}}
    rows = [{"dtype": "float32", "precision": "default", "contraction": f"contract_{name}", "error": 1e-7} for name in "yxw"]
    text = page({**about, "wrong": {"3x3 float32": "error 1e-2"}, "checks": {"rows": rows}})
    assert "- 3x3 float32: error 1e-2" in text
    assert "| float32 | default | 1.0e-07 | 1.0e-07 | 1.0e-07 |" in text
    assert "rehearsal" not in text


def test_ratios(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    page = importlib.import_module("bench.gpu.report").page
    seconds = {"numconv channels_last": 1e-4, "numconv NCHW": 2e-4, "cuDNN channels_last": 1.5e-4, "cuDNN NCHW": 1e-4}
    row = {"row": "layer", "kind": "bf16", "contraction": "contract_y", "flops": 10**9, "bytes": 1, "seconds": seconds}
    times = {"ceilings": {}, "rows": [row], "left_out": ["b"], "training": []}
    text = page({"about": {}, "emulated": False, "wrong": {}, "seconds": {}, "times": times})
    assert "| layer | contract_y | 100.0 | 10.0 | 200.0 | 1.50 | 0.50 |  |" in text
    assert "Geometric mean of the ratios, channels_last: 1.50." in text
    assert "1 rows were left out" in text


def test_the_table_of_what_was_timed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "bench")
    monkeypatch.syspath_prepend(ROOT)
    table = importlib.import_module("bench.gpu.tune").table
    rows = [
        {"problem": "one", "factor": "a", "plan": "a 1", "seconds": 2e-3, "predicted": 1e-3},
        {"problem": "one", "factor": "b", "plan": "b 1", "seconds": 1e-3, "predicted": 2e-3},
        {"problem": "two", "factor": "a", "plan": "a 2", "seconds": 4e-3, "predicted": 1e-3},
        {"problem": "two", "factor": "b", "plan": "b 2", "seconds": 5e-3, "predicted": 2e-3},
        {"problem": "three", "factor": "a", "plan": "a 3", "seconds": 9e-3, "predicted": 1e-3},
    ]
    assert table(rows) == ({"a": 4.0, "b": 1.5}, {"one": "b 1", "two": "a 2", "three": "a 3"})


def part_of(name):
    """Import a part of the benchmark as it is imported by `python -m bench.gpu`."""
    return importlib.import_module(f"bench.gpu.{name}")


def test_parts_run_apart(monkeypatch, tmp_path):
    """A process that ends early is followed by one that goes on; one that crashes costs no other part its results."""
    monkeypatch.syspath_prepend(ROOT)
    apart, begun, saved = part_of("apart"), [], []

    def process(part, out, minutes, first):
        begun.append((part, first))
        if part == "wrappers":
            return {"wrong": {part: "the process ended with -11: nothing said"}}
        spoiled = first < 4
        found = {"rows": [first], "wrong": {f"row {first}": "nan"} if spoiled else {}, "next": first + 2 if spoiled else None}
        return {"about": {"GPU": "one"}, "wrong": found["wrong"], "seconds": {part: 1.5}, part: found}

    monkeypatch.setattr(apart, "_process", process)
    found = apart.run(["wrappers", "checks"], tmp_path, 9.0, lambda found: saved.append(json.dumps(found)))
    assert begun == [("wrappers", 0), ("checks", 0), ("checks", 2), ("checks", 4)]
    assert list(found["wrong"]) == ["wrappers", "row 0", "row 2"]
    assert found["checks"]["rows"] == [0, 2, 4]
    assert found["seconds"] == {"wrappers": 0, "checks": 4.5}
    assert found["about"] == {"GPU": "one"}
    assert len(saved) == 4


@pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
def test_one_check_that_fails_is_that_checks_trouble(monkeypatch):
    for folder in (ROOT, ROOT / "bench"):
        monkeypatch.syspath_prepend(folder)
    checks, real = part_of("checks"), part_of("checks")._error
    monkeypatch.setattr(checks, "cases", lambda small: [("ragged", "float64", "default", name) for name in checks.GIVEN])

    def error(cupy, name, *how):
        if name == "contract_x":
            raise RuntimeError("an illegal memory access was encountered")
        return real(cupy, name, *how)

    monkeypatch.setattr(checks, "_error", error)
    with stand_in() as cupy:
        found = checks.run(cupy, small=True)
        assert [row["contraction"] for row in found["rows"]] == list(checks.GIVEN)
        assert found["wrong"] == {"ragged float64 default contract_x": "RuntimeError: an illegal memory access was encountered"}
        assert found["next"] is None
        monkeypatch.setattr(checks, "_spoiled", lambda cupy: True)  # as CUDA is after that
        assert checks.run(cupy, small=True)["next"] == 2
        assert [row["contraction"] for row in checks.run(cupy, small=True, first=2)["rows"]] == ["contract_w"]


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_a_gpu(tmp_path):
    ended = run("--out", tmp_path / "report")
    assert ended.returncode == 2
    assert ended.stderr == "CuPy is not installed; --emulate rehearses without one\n"
    assert not (tmp_path / "report").exists()
