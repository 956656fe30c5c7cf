"""Training steps of the three networks on the GPU, beside the same ones in PyTorch, eager."""

from __future__ import annotations

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
        begun = train.fit(
            model, train.place(params, on_device), on_device, optimizer=train.adam(RATE), epochs=10**6, batch_size=batch
        )
        sides = {"numconv": [lambda begun=begun: next(begun)]}
        if torch is not None:
            import networks_torch

            weights = [np.array(a) for a in leaves(params)]
            sides["PyTorch"] = [networks_torch.stepping(kind, weights, x, device="cuda")]
        rows.append({"row": kind, "batch": batch, "seconds": clock.medians(sides, emulated=emulated)})
    return rows
