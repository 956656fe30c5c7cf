"""Measured tables and autotuning on a GPU: what they choose, what they keep, and what they do when something goes wrong."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import numconv
from numconv import _cuda, _kept
from numconv.conv import generic, geometry
from numconv.conv.cuda import Drawer, gemm, measured, plain, tuning
from numconv.conv.cuda.measured import Table
from numconv.conv.cuda.plan import METHODS, plan, ways
from numconv.conv.cuda.problem import Problem

from .cuda_emulator.emulator import H200, MISSING, Emulator
from .cuda_emulator.stand_in import stand_in

G = geometry.conv((2, 8, 9, 9), (8, 8, 3, 3), 1, 1, 1, 1)
PROBLEM = Problem("contract_y", G, "float32", "default", H200)
on_emulator = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


class Timed(Emulator):
    """A GPU on which the method wanted is the fastest; it counts the timings."""

    def __init__(self, wanted: str, short_of_memory: str = "") -> None:
        super().__init__()
        self.wanted, self.short, self.timings = wanted, short_of_memory, 0

    def seconds(self, call, times):
        self.timings += 1
        before = len(self.programs)
        call()
        ran = {program.name for program in self.programs[before:]}
        return 1e-5 if ("contract_y" in ran) == (self.wanted == "plain") else 3e-5

    def empty(self, shape, dtype):
        if self.short and len(shape) == 3:  # as only copies with another order of axes have
            raise MemoryError(self.short)
        return super().empty(shape, dtype)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch, tmp_path):
    monkeypatch.setattr(_kept, "folder", lambda: tmp_path)
    monkeypatch.setattr(measured, "_FOUND", {})
    measured.of.cache_clear()
    plan.cache_clear()
    yield
    measured.of.cache_clear()
    plan.cache_clear()


def test_a_choice_goes_first():
    able = ways(PROBLEM, METHODS, Table())
    assert len({found.name for _, found in able}) == len(able) > 3
    for wanted in able:
        first, *rest = ways(PROBLEM, METHODS, Table(choices={measured.key(PROBLEM): wanted[1].name}))
        assert first == wanted
        assert rest == [way for way in able if way != wanted]
    assert ways(PROBLEM, METHODS, Table(choices={measured.key(PROBLEM): "a method of long ago"})) == able


def test_factors_put_plans_in_another_order():
    found = plan(PROBLEM)[1]
    slow = Table(factors={f"contract_y float32 {found.kind}": 1e6})
    assert ways(PROBLEM, METHODS, slow)[-1][1] == found
    assert ways(PROBLEM._replace(dtype="float64"), METHODS, slow) == ways(PROBLEM._replace(dtype="float64"), METHODS, Table())


def test_kinds_do_not_depend_on_shapes():
    kinds = set()
    for batch in (1, 3, 64):
        for channels in (8, 64, 256):
            for name in ("contract_y", "contract_x", "contract_w"):
                g = geometry.conv((batch, channels, 14, 14), (channels, channels, 3, 3), 1, 1, 1, 1)
                kinds |= {each.kind for _, each in ways(Problem(name, g, "float32", "default", H200), METHODS, Table())}
    assert kinds == {
        "plain one element",
        "gemm 128x64 thrice",
        "gemm 64x64 thrice",
        "gemm 64x32 thrice",
        "gradient 128x128",
        "gradient 64x64",
    }


def test_keys_tell_problems_apart():
    others = [
        PROBLEM._replace(contraction="contract_x"),
        PROBLEM._replace(dtype="float64"),
        PROBLEM._replace(precision="tf32"),
        PROBLEM._replace(last=(True, False)),
        PROBLEM._replace(aligned=(4, 16)),
        *(PROBLEM._replace(g=G._replace(**{field: (2, 2, 2)})) for field in G._fields[5:]),
        *(PROBLEM._replace(g=G._replace(**{field: 5})) for field in ("batch", "groups", "c_in", "c_out")),
    ]
    assert len({measured.key(each) for each in (PROBLEM, *others)}) == len(others) + 1
    assert measured.key(PROBLEM._replace(device=H200._replace(number=3))) == measured.key(PROBLEM)


def test_what_is_kept_is_found_by_other_processes(tmp_path):
    able = ways(PROBLEM, METHODS, Table())
    measured.keep("NVIDIA H200", PROBLEM, able[2][1])
    measured.keep("NVIDIA H200", PROBLEM._replace(dtype="float64"), able[0][1])
    measured._FOUND.clear()
    measured.of.cache_clear()
    assert measured.of("NVIDIA H200").choices[measured.key(PROBLEM)] == able[2][1].name
    assert len(measured.of("NVIDIA H200").choices) == 2
    assert measured.of("NVIDIA A100") == Table({}, {})
    (file,) = tmp_path.iterdir()
    assert file.name == f"measured-nvidia-h200-{numconv.__version__}.json"


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", '{"choices": 3}', '{"factors": {"a": "fast"}}', '{"factors": null}', "\x00\xff"]
)
def test_a_damaged_file_is_no_table(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_bytes(text.encode("latin-1"))
    assert measured.read(path) == Table()


def test_the_users_table_goes_before_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "SHIPPED", tmp_path / "tables")
    (tmp_path / "tables").mkdir()
    key, (_, first), (_, second) = measured.key(PROBLEM), *ways(PROBLEM, METHODS, Table())[:2]
    shipped = Table({"contract_y float32 gemm 64x64 thrice": 1.5}, {key: second.name})
    (tmp_path / "tables" / f"{measured.slug(H200.name)}.json").write_text(shipped.text)
    assert plan(PROBLEM)[1] == second
    measured.keep(H200.name, PROBLEM, first)
    plan.cache_clear()
    assert plan(PROBLEM)[1] == first
    assert measured.of(H200.name).factors == shipped.factors


@on_emulator
def test_autotune_keeps_the_fastest(monkeypatch):
    gpu = Timed("gemm")  # plain is what is predicted
    monkeypatch.setattr(_cuda, "backend", gpu)
    x, w = (np.random.default_rng(0).standard_normal(s).astype(np.float32) for s in (G.x_shape, G.w_shape))
    drawer = Drawer("default", (gemm, plain))
    before = drawer.contract_y(x, w, G)
    monkeypatch.setattr(tuning, "HOPELESS", 1e9)
    assert gpu.timings == 0
    with numconv.autotune():
        tuned = drawer.contract_y(x, w, G)
        timings = gpu.timings
        again = drawer.contract_y(x, w, G)
    after = drawer.contract_y(x, w, G)
    assert timings == gpu.timings == 2 * tuning.ROUNDS * min(len(ways(PROBLEM, (gemm, plain), Table())), tuning.MOST)
    exact = generic.contract_y(x.astype(np.float64), w.astype(np.float64), G)
    for got in (before, tuned, again, after):
        assert np.linalg.norm(got - exact) <= 1e-6 * np.linalg.norm(exact)
    assert tuned.tobytes() == again.tobytes() == after.tobytes()
    (chosen,) = measured.of(H200.name).choices.values()
    assert chosen.startswith("gemm")
    assert gpu.programs[0].name == "contract_y"
    assert gpu.programs[-1].name == "gather"


@on_emulator
def test_the_fastest_is_chosen_whatever_was_predicted(monkeypatch):
    monkeypatch.setattr(tuning, "HOPELESS", 1e9)
    monkeypatch.setattr(tuning, "MOST", 99)
    given = tuple(np.ones(s, np.float32) for s in (G.x_shape, G.w_shape))
    for wanted in ("plain", "gemm"):
        monkeypatch.setattr(_cuda, "backend", Timed(wanted))
        problem = PROBLEM._replace(device=H200._replace(name=f"a GPU that likes {wanted}"))
        tuning.tune(problem, METHODS, given)
        assert plan(problem)[0].__name__.endswith(wanted)


@on_emulator
def test_a_plan_without_memory_is_left_out(monkeypatch):
    monkeypatch.setattr(tuning, "HOPELESS", 1e9)
    given = tuple(np.ones(s, np.float32) for s in (G.x_shape, G.w_shape))
    gpu = Timed("gemm", short_of_memory="the GPU is full")
    monkeypatch.setattr(_cuda, "backend", gpu)
    times = tuning.timed(PROBLEM, ways(PROBLEM, METHODS, Table()), given)
    assert [way[0] for _, way in times] == [plain]


def test_hopeless_plans_are_not_timed():
    g = geometry.conv((32, 256, 56, 56), (256, 256, 3, 3), 1, 1, 1, 1)
    problem = PROBLEM._replace(g=g, dtype="bfloat16")
    found = tuning.promising(problem, METHODS, Table())
    assert 1 < len(found) <= tuning.MOST
    assert plain not in [method for method, _ in found]


def test_it_ends_with_its_block():
    with numconv.autotune():
        assert tuning.is_asked()
    assert not tuning.is_asked()
    with pytest.raises(KeyError), numconv.autotune():
        raise KeyError
    assert not tuning.is_asked()


@on_emulator
def test_public_functions_are_tuned():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 9, 9)), rng.standard_normal((6, 4, 3, 3))
    with stand_in() as cupy, numconv.autotune():
        y, pullback = numconv.conv2d_vjp(cupy.asarray(x), cupy.asarray(w), padding="same")
        pullback(y)
        assert len(measured.of(H200.name).choices) == 3
        said = numconv.explain(numconv.conv2d, cupy.asarray(x), cupy.asarray(w), padding="same")
        assert said.forward.method in {"gemm", "plain"}


def test_nothing_is_timed_in_a_capture(monkeypatch):
    cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: SimpleNamespace(is_capturing=lambda: True)))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(RuntimeError, match="captured for a CUDA graph: tune before the capture"):
        _cuda.CupyBackend().seconds(lambda: None, 1)
