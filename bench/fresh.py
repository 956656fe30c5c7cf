"""A process of its own, whose memory and compiled code are as a user's are: it prints what it measured as JSON.

python fresh.py step [blocks seconds pause most]    a training step of the autoencoder, on memory that malloc gives back
python fresh.py start                               import, first calls, calls on tiny arrays
python fresh.py memory SIDE LAYER CONTRACTION       bytes that a call asks for beyond its arguments and result
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def run(*arguments, **environment):
    """Run this file in a process of its own and return what it measured."""
    command = [sys.executable, __file__, *map(str, arguments)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **environment})
    return json.loads(ran.stdout)


def step(*pace):
    """Compare training steps without keeping memory."""
    from statistics import median

    import numba
    import peers
    from measure import best
    from networks import steps
    from timing import Pace, Race

    peers.set_threads(numba.get_num_threads())
    pace = Pace(int(pace[0]), float(pace[1]), float(pace[2]), int(pace[3])) if pace else Pace()
    blocks = Race(steps("autoencoder"), pace).run()
    mine = blocks.pop("numconv")
    return {"ours": median(mine), "peers": {name: median(times) for name, times in blocks.items()}, **best(mine, blocks)}


def start():
    """Time what a short program waits for: the clock starts before NumPy and numconv are imported."""
    begin = time.perf_counter()
    import numpy as np

    after_numpy = time.perf_counter()
    import numconv

    imported = time.perf_counter()
    x, w = np.ones((1, 1, 8, 8), np.float32), np.ones((1, 1, 3, 3), np.float32)
    numconv.conv2d(x, w)
    first = time.perf_counter()
    images, filters = np.ones((4, 16, 32, 32), np.float32), np.ones((32, 16, 3, 3), np.float32)
    y, pullback = numconv.conv2d_vjp(images, filters)
    pullback(y)
    gradients = time.perf_counter()
    calls = []
    for _ in range(2000):
        called = time.perf_counter()
        numconv.conv2d(x, w)
        calls.append(time.perf_counter() - called)
    return {
        "numpy": after_numpy - begin,
        "import": imported - begin,
        "first": first - imported,
        "gradients": gradients - first,
        "tiny": sorted(calls)[len(calls) // 2],
    }


def memory(side, name, contraction):
    """Measure the peak of a process during a second call, less what it held before and the result; Linux only.

    The first call brings in code, compiles and fills caches, all of which count as memory of the process but not of a call.
    """
    import ctypes

    import peers
    from bench_nets import call_of
    from measure import layer_arrays
    from tables import NETS

    from numconv import _jit

    layer = NETS[name]
    arrays = layer_arrays(layer)
    f, arguments = call_of(layer, contraction, *arrays)
    ours = lambda: f(*arguments, **layer.arguments)  # noqa: E731
    call = ours if side == "numconv" else peers.contraction(contraction, layer, *arrays)[side].call
    call()
    _jit._local.__dict__.clear()  # the scratch memory that numconv keeps for the next call is memory of this call
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status("VmRSS")
    result = call()
    return {"bytes": max(0, _status("VmHWM") - before - result.nbytes)}


def _status(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    print(json.dumps({"step": step, "start": start, "memory": memory}[sys.argv[1]](*sys.argv[2:])))
