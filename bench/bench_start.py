"""Starting: import, first calls with nothing compiled and from a warm cache, calls on tiny arrays; and the memory of a call."""

import os
from statistics import median

import fresh
import peers
import pytest
from measure import layer_arrays, normals, plan_of
from tables import NETS, cases

import numconv

WORKSPACE = ["224 stem 7x7/2 3-64", "56 3x3 64", "56 1x1 64-256", "14 4x4/2 32-64", "1024 31x31 1-1"]


def test_start(benchmark, tmp_path):
    """A cold start, and five from the cache it leaves."""
    cold = fresh.run("start", NUMBA_CACHE_DIR=str(tmp_path))
    runs = []
    benchmark.pedantic(lambda: runs.append(fresh.run("start", NUMBA_CACHE_DIR=str(tmp_path))), rounds=5)
    warm = {name: median(run[name] for run in runs) for name in cold}
    benchmark.group = "start"
    benchmark.extra_info.update(table="start", row="start", cold=cold, warm=warm)


def test_tiny(race):
    """One image of 8 x 8 under 3 x 3 taps: all of it is the way to the kernel and back."""
    x, w = normals((1, 1, 8, 8), (1, 1, 3, 3))
    sides = {}
    if peers.torch:
        tx, tw = peers.torch.from_numpy(x), peers.torch.from_numpy(w)
        sides["PyTorch"] = peers.Side(lambda: peers.torch.nn.functional.conv2d(tx, tw))
    race(lambda: numconv.conv2d(x, w), sides, table="tiny", row="1x1x8x8, 3x3")


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="memory is measured on Linux only")
@pytest.mark.parametrize("name", cases(WORKSPACE, []))
def test_workspace(benchmark, name):
    """Memory that one call asks for beyond its arguments and result, beside that of all its windows laid out."""
    layer = NETS[name]
    sides = ["numconv", *(["PyTorch"] if peers.torch else [])]
    found = benchmark.pedantic(lambda: {side: fresh.run("memory", side, name, "y")["bytes"] for side in sides})
    windows = 4 * layer.batch * layer.c_in * layer.taps**2 * layer.out[0] * layer.out[1]
    benchmark.group = "workspace"
    x, w, _ = layer_arrays(layer)
    plan = plan_of(numconv.conv2d, x, w, **layer.arguments)
    benchmark.extra_info.update(table="workspace", row=name, plan=plan, bytes=found, windows=windows, data=4 * layer.numbers)
