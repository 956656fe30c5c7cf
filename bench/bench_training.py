"""Training steps of an autoencoder, a VAE and a contrastive model, batches of 128 images of 28 x 28, beside PyTorch eager."""

import math

import fresh
import peers
import pytest
from networks import BATCH, KINDS, steps

STEPS = 30


@pytest.mark.parametrize("kind", KINDS)
def test_step(race, kind):
    sides = steps(kind)
    losses = {name: [side() for _ in range(STEPS)] for name, side in sides.items()}
    for name, history in losses.items():
        assert history[-1] < history[0], f"{kind} in {name} does not learn"
    if kind == "autoencoder" and peers.torch:  # no noise, though batches are drawn in another order
        assert math.isclose(losses["numconv"][0], losses["PyTorch"][0], rel_tol=0.05)
    ours = sides.pop("numconv")
    others = {name: peers.Side(side) for name, side in sides.items()}
    race(ours, others, table="training", row=kind, tolerance=None, images=BATCH)


def test_fresh_memory(benchmark, pace):
    """The autoencoder once more, where freed memory goes back to the system, as it does for users."""
    found = benchmark.pedantic(fresh.run, ("step", *pace))
    benchmark.group = "training"
    benchmark.extra_info.update(found, table="training", row="autoencoder, fresh memory", images=BATCH)
