"""A whole training step as a CUDA graph: forward, backward, clipping and Adam, replayed, beside the same steps one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import clock

STEPS = 5
CLIP, RATE, WARMUP = 1.0, 1e-3, 2


def run(cupy: Any, *, small: bool) -> dict[str, Any]:
    """Replay the autoencoder's step: the same bits as eager steps, and how long both take."""
    from networks import BATCH

    from numconv import train

    batch, size = (4, 8) if small else (BATCH, 28)
    config = {"kind": "autoencoder", "shape": (1, size, size), "latent": 2 if small else 32}
    model = train.build(config)
    optimizer = train.adamw(train.warmup_cosine(RATE, 100, warmup=WARMUP))
    rng = np.random.default_rng(0)
    x = cupy.asarray(rng.random((STEPS, batch, 1, size, size), np.float32))
    made = model.init(rng, (1, size, size))
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        eager, one_by_one = stepping(cupy, model, optimizer, train.place(made, x), x[0], by_int=True)
        by_step, warm = stepping(cupy, model, optimizer, train.place(made, x), x[0])
        replayed, record = stepping(cupy, model, optimizer, train.place(made, x), x[0])
        images = [each[-1] for each in (eager, by_step, replayed)]
        for i in range(STEPS):  # compiles, and sends the tables that are kept: nothing of both may happen in a capture
            images[0][...] = images[1][...] = x[i]
            one_by_one()
            warm()
        pool = cupy.cuda.MemoryPool()  # of the graph alone: nobody else is given the memory it works in
        with cupy.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            record()
            graph = stream.end_capture()
        for i in range(STEPS):
            images[2][...] = x[i]
            graph.launch(stream)
        host = [[a.get() for a in arrays[:-1]] for arrays in (eager, by_step, replayed)]
        seconds = clock.medians({"eager": [one_by_one], "graph": [lambda: graph.launch(stream)]}, emulated=small)
    same = all(a.tobytes() == b.tobytes() for a, b in zip(host[1], host[2], strict=True))
    away = max(float(np.max(abs(a - b))) for a, b in zip(host[0], host[2], strict=True))
    wrong = {} if same else {"graph": "a replayed step has other bits than the same step one by one"}
    if not away <= 1e-6:
        wrong["graph of an int"] = f"parameters or state are {away:.1e} away from those of steps that are numbers of the host"
    return {"batch": batch, "steps": STEPS, "seconds": seconds, "away": away, "wrong": wrong}


def stepping(
    cupy: Any, model: Any, optimizer: Any, params: Any, x: Any, *, by_int: bool = False
) -> tuple[list[Any], Callable[[], None]]:
    """Return arrays that a step changes in place (then the batch's, where images are put), and the step."""
    from numconv._tree import leaves
    from numconv.train import clip_by_global_norm
    from numconv.train.batch import Batch

    batch = Batch(cupy.array(x, copy=True), None, np.arange(len(x)), epoch=0, seed=0)
    state = optimizer.init(params)
    done, number = cupy.asarray(0), [0]
    kept = list(leaves((params, state)))

    def step() -> None:
        grads, _ = clip_by_global_norm(model.loss(params, batch)[2](), CLIP)
        after = optimizer.update(grads, state, params, number[0] if by_int else done)
        for old, new in zip(kept, leaves(after), strict=True):
            old[...] = new
        done[...] = done + 1
        number[0] += 1

    return [*kept, batch.x], step
