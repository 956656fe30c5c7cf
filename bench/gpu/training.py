"""Training steps of the three networks on the GPU, beside the same ones in PyTorch, eager."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from . import clock


def steps(cupy: Any, torch: Any, *, emulated: bool) -> list[dict[str, Any]]:
    """Return the seconds of a step by side, for each kind of network."""
    from networks import BATCH, IMAGES, KINDS, RATE, ours

    from numconv import train
    from numconv._tree import leaves

    rows = []
    batch, images, size = (4, 8, 8) if emulated else (BATCH, IMAGES, 28)
    for kind in ("autoencoder",) if emulated else KINDS:
        if emulated:
            model, shape = train.build({"kind": kind, "shape": (1, size, size), "latent": 2}), (1, size, size)
        else:
            model, shape = ours(kind), (1, size, size)
        x = np.random.default_rng(1).random((images, *shape), np.float32)
        params = model.init(np.random.default_rng(0), shape)
        on_device = cupy.asarray(x)
        begun = _steps(cupy, model, train.place(params, on_device), on_device, train.adam(RATE), batch)
        sides = {"numconv": [lambda begun=begun: next(begun)]}
        if torch is not None:
            import networks_torch

            weights = [np.array(a) for a in leaves(params)]
            sides["PyTorch"] = [networks_torch.stepping(kind, weights, x, device="cuda")]
        rows.append({"row": kind, "batch": batch, "seconds": clock.medians(sides, emulated=emulated)})
    return rows


def _steps(cupy: Any, model: Any, params: Any, x: Any, optimizer: Any, batch: int) -> Iterator[Any]:
    """Train without end. `train.fit` draws its order with a kernel of the CPU, which wants Numba; all else is what it does."""
    from numconv import train

    state, per_epoch, rng = optimizer.init(params), len(x) // batch, np.random.default_rng(0)
    for number in count():
        epoch, i = divmod(number, per_epoch)
        if i == 0:
            order = rng.permutation(len(x))[: per_epoch * batch].reshape(per_epoch, batch)
            where = cupy.asarray(order)
        taken = train.take(x, None, order[i], epoch=epoch, seed=0, where=where[i])
        params, state = optimizer.update(model.loss(params, taken)[2](), state, params, number)
        yield params
