"""The benchmark harness itself, without timing anything: layers' arithmetic, turns, ratios, goals, pages."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

import numconv

ABOUT = {
    "facts": {"CPU": "a CPU"},
    "peaks": {"float32": 1e11, "float64": 5e10, "bandwidth": 2e10},
    "missing": ["JAX"],
    "failed": [],
    "quick": True,
}


@pytest.fixture
def bench(monkeypatch):
    """Import modules of bench/ by name."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    return importlib.import_module


def row(table, ratio, **details):
    best = {"ours": 0.01, "peers": {"PyTorch": 0.01 * ratio}, "best": "PyTorch", "ratio": ratio, "spread": [ratio, ratio]}
    return {"table": table, "row": "a", "dtype": "float32", "work": 10**9, "skipped": {}, "plan": {}, **best, **details}


def nets(ratio, **details):
    return [row("nets", ratio, contraction=name, bytes=10**6, **details) for name in "yxw"]


def test_layers_agree_with_numconv(bench):
    tables = bench("tables")
    for name, layer in tables.NETS.items():
        x = layer.batch, layer.c_in, layer.height, layer.width
        w = layer.c_out, layer.c_in // layer.groups, layer.taps, layer.taps
        y = layer.batch, layer.c_out, *layer.out
        assert numconv.conv_output_shape(x, w, **layer.arguments) == y, name
        assert layer.numbers == sum(map(np.prod, (x, w, y)))
        assert layer.flops == 2 * np.prod(y) * np.prod(w[1:])


def test_tables_name_no_row_that_is_not_there(bench):
    tables = bench("tables")
    assert set(tables.QUICK_NETS) <= set(tables.NETS)
    assert not set(tables.LISTED) & set(tables.UNSEEN)
    assert (len(tables.LISTED), len(tables.UNSEEN)) == (15, 9)


def test_sides_take_turns(bench):
    timing, log = bench("timing"), []
    sides = {name: lambda name=name: log.append(name) for name in "ab"}
    race = timing.Race(sides, timing.Pace(blocks=3, seconds=1, pause=0, most=2))
    assert log == ["a", "a", "b", "b"]
    log.clear()
    blocks = race.run()
    assert log == (["a"] * 3 + ["b"] * 3) * 3  # one call to wake up, two that count
    assert [len(times) for times in blocks.values()] == [3, 3]


def test_a_slow_side_gets_fewer_blocks(bench, monkeypatch):
    timing, log = bench("timing"), []
    monkeypatch.setattr(timing, "seconds", lambda f: f() or 0.5)
    timing.Race({"slow": lambda: log.append(0)}, timing.Pace(blocks=7, pause=0)).run()
    assert len(log) == 2 + 3


def test_best_is_the_fastest_peer_and_the_ratio_a_median_of_pairs(bench):
    best = bench("measure").best([1.0, 2.0, 4.0], {"fast": [2.0, 2.0, 2.0], "slow": [3.0, 3.0, 3.0]})
    assert (best["best"], best["ratio"]) == ("fast", 1.0)
    assert bench("measure").best([1.0], {}) == {"best": None, "ratio": None}


def test_a_wrong_result_is_refused(bench):
    agree = bench("measure").agree
    agree("peer", np.ones(3), np.ones(3) + 1e-7, 1e-6)
    with pytest.raises(AssertionError, match=r"differ by 5.0e-01"):
        agree("peer", np.ones(3), np.array([1.0, 1.0, 2.0]), 1e-3)


def test_goals_are_judged_on_every_layer(bench):
    goals = bench("goals")
    found = {g.key: g for g in goals.goals([*nets(4.0), *nets(0.9, row="b", unseen=True)], ABOUT["peaks"])}
    assert not found["nets y"].met
    assert found["nets w"].met
    assert found["nets w"].measured.startswith("1.90")
    assert not found["nets each"].met
    assert "3 of 6 below" in found["nets each"].measured
    assert found["signals short"].met is None


def test_roofline_counts_direct_layers_that_memory_does_not_bound(bench):
    slow = row("nets", 1.0, contraction="y", bytes=10**9)  # one flop a byte
    winograd = row("nets", 1.0, contraction="y", bytes=10**6, ours=0.005, plan={"method": "winograd"})
    direct = row("nets", 1.0, contraction="y", bytes=10**6, ours=0.0125, plan={"method": "direct"})
    found = {g.key: g for g in bench("goals").goals([slow, winograd, direct], ABOUT["peaks"])}
    assert found["roofline direct"].measured == "80% (80% to 80%)"
    assert not found["roofline direct"].met
    assert found["roofline winograd"].measured == "200% (200% to 200%)"
    assert found["roofline winograd"].met


def test_floors_are_named_in_words(bench):
    rows = [*nets(0.5), row("signals", 2.0, size=16), row("rooms", 0.1)]
    assert bench("goals").under_floors(rows) == [
        f"nets, a, {name} ran at 0.50 of the speed of PyTorch; the floor is 1.00" for name in "yxw"
    ]


def test_pages_hold_every_row_and_no_absolute_path(bench, tmp_path, capsys):
    rows = [*nets(2.0), row("filters", 3.0, size=3, skipped={"lfilter": "2.0 s a call"}), row("training", 1.5, images=128)]
    source = tmp_path / "raw.json"
    source.write_text(json.dumps({"about": ABOUT, "benchmarks": [{"extra_info": r} for r in rows] + [{"extra_info": {}}]}))
    assert bench("report").main(str(source)) == 0
    page = capsys.readouterr().out
    for words in (
        "a CPU",
        "not compared: JAX",
        "| a | 2.00 | 2.00 | 2.00 | 100 |",
        "lfilter, 2.0 s a call",
        "geometric mean",
        "no ratio is under its floor",
    ):
        assert words in page
    assert str(Path(__file__).parents[1]) not in page


def test_a_benchmark_that_failed_fails_the_report(bench, tmp_path, capsys):
    source = tmp_path / "raw.json"
    source.write_text(json.dumps({"about": {**ABOUT, "failed": ["test_net[a]"]}, "rows": nets(2.0)}))
    assert bench("report").main(str(source)) == 1
    assert "did not run: test_net[a]" in capsys.readouterr().out


def test_results_keep_four_digits(bench):
    assert bench("report").rounded({"a": [1.23456, 7], "b": "1.23456"}) == {"a": [1.235, 7], "b": "1.23456"}


def test_every_note_belongs_to_a_goal(bench):
    keys = {g.key for g in bench("goals").goals([], ABOUT["peaks"])}
    assert set(bench("notes").BOUNDS) <= keys
