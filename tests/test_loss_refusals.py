"""What losses refuse, in words."""

from __future__ import annotations

import re

import array_api_strict
import numpy as np
import pytest

from numconv import loss

X = np.zeros((2, 3))
Z = np.ones((2, 3))
ONE = np.ones((1, 3))
NONE = np.ones((0, 3))
YES = np.array([0, 1])

REFUSALS = [
    ("mse_loss", (X, np.zeros((2, 1))), {}, ValueError, "target has shape (2, 1); needed that of prediction, (2, 3)"),
    ("l1_loss", (X, np.zeros(3)), {}, ValueError, "target has shape (3,); needed that of prediction, (2, 3)"),
    ("mse_loss", (X, np.zeros((2, 3), int)), {}, TypeError, "target has dtype int64; needed a real floating dtype"),
    ("mse_loss", (X + 1j, X), {}, TypeError, "prediction has dtype complex128; needed a real floating dtype"),
    ("mse_loss", ([1.0], X), {}, TypeError, "prediction must be an array"),
    ("mse_loss", (X, array_api_strict.zeros((2, 3))), {}, TypeError, "arrays must come from one library"),
    ("mse_loss", (X, X), {"reduction": "avg"}, ValueError, "reduction='avg'; needed one of 'mean', 'sum', 'none', 'batchmean'"),
    ("mse_loss", (X, X), {"reduction": None}, ValueError, "reduction=None; needed one of"),
    ("mse_loss", (NONE, NONE), {}, ValueError, "reduction='mean' of terms of shape (0, 3); needed at least 1"),
    ("gaussian_kl_loss", (NONE, NONE), {}, ValueError, "reduction='batchmean' of terms of shape (0, 3); needed at least 1"),
    ("mse_loss", (X[0, 0], X[0, 0]), {"reduction": "batchmean"}, ValueError, "of terms of shape (); needed a batch axis"),
    ("huber_loss", (X, X), {"delta": 0}, ValueError, "delta=0; needed a finite number, above 0"),
    ("huber_loss", (X, X), {"delta": "1"}, TypeError, "delta is '1' of type str; needed a number"),
    ("huber_loss", (X, X), {"delta": float("nan")}, ValueError, "delta=nan; needed a finite number, above 0"),
    ("bce_with_logits_loss", (X, X[:1]), {}, ValueError, "target has shape (1, 3); needed that of logits, (2, 3)"),
    ("cross_entropy_loss", (X, np.zeros(2)), {}, TypeError, "labels has dtype float64; needed an integer dtype"),
    ("cross_entropy_loss", (X, np.zeros(2, bool)), {}, TypeError, "labels has dtype bool; needed an integer dtype"),
    ("cross_entropy_loss", (X, [0, 1]), {}, TypeError, "labels must be an array"),
    ("cross_entropy_loss", (X, np.array([0, 3])), {}, ValueError, "labels holds integers from 0 to 3; needed 0 to 2 for logits"),
    ("cross_entropy_loss", (X, np.array([-1, 1])), {}, ValueError, "labels holds integers from -1 to 1; needed 0 to 2"),
    ("cross_entropy_loss", (X, np.array([0, 300], np.uint16)), {}, ValueError, "from 0 to 300; needed 0 to 2"),
    (
        "cross_entropy_loss",
        (X, np.zeros((2, 3), int)),
        {},
        ValueError,
        "labels has shape (2, 3); needed (2,) for logits of shape (2, 3)",
    ),
    ("cross_entropy_loss", (X[0], np.array(0)), {}, ValueError, "logits have shape (3,); needed (batch, classes, ...)"),
    (
        "cross_entropy_loss",
        (X[:, :0], YES),
        {},
        ValueError,
        "logits have shape (2, 0); needed (batch, classes, ...) with at least 1 class",
    ),
    (
        "cross_entropy_loss",
        (X, YES),
        {"label_smoothing": 1.5},
        ValueError,
        "label_smoothing=1.5; needed a finite number, at least 0, at most 1",
    ),
    ("cross_entropy_loss", (NONE, np.zeros(0, int)), {}, ValueError, "reduction='mean' of terms of shape (0,)"),
    (
        "gaussian_nll_loss",
        (X, X, np.zeros(2)),
        {},
        ValueError,
        "logvar has shape (2,); needed one that broadcasts to that of mean, (2, 3)",
    ),
    ("gaussian_nll_loss", (X, X, np.zeros((1, 2, 3))), {}, ValueError, "logvar has shape (1, 2, 3); needed one that broadcasts"),
    ("gaussian_kl_loss", (X, X[:, :1]), {}, ValueError, "logvar has shape (2, 1); needed that of mean, (2, 3)"),
    ("reparameterize", (X, X, X[:1]), {}, ValueError, "noise has shape (1, 3); needed that of mean, (2, 3)"),
    (
        "contrastive_loss",
        (Z, Z, np.array([0, 2])),
        {},
        ValueError,
        "same holds integers from 0 to 2; needed 0 to 1, 1 for each positive",
    ),
    ("contrastive_loss", (Z, Z, np.array([0.0, 1.0])), {}, TypeError, "same has dtype float64; needed an integer dtype"),
    ("contrastive_loss", (Z, Z, np.array([1])), {}, ValueError, "same has shape (1,); needed (2,)"),
    ("contrastive_loss", (Z, Z, YES), {"threshold": float("inf")}, ValueError, "threshold=inf; needed a finite number"),
    ("contrastive_loss", (Z, Z, YES), {"temperature": -1.0}, ValueError, "temperature=-1.0; needed a finite number, above 0"),
    ("contrastive_loss", (NONE, NONE, np.zeros(0, int)), {}, ValueError, "reduction='mean' of terms of shape (0,)"),
    ("triplet_loss", (Z, Z, ONE), {}, ValueError, "negative has shape (1, 3); needed that of anchor, (2, 3)"),
    ("triplet_loss", (Z, Z, Z), {"margin": -0.1}, ValueError, "margin=-0.1; needed a finite number, at least 0"),
    ("triplet_loss", (Z, Z, Z), {"margin": True}, TypeError, "margin is True of type bool; needed a number"),
    ("info_nce_loss", (Z, Z, 0.0), {}, ValueError, "temperature=0.0; needed a finite number, above 0"),
    ("info_nce_loss", (ONE, ONE), {}, ValueError, "za holds a batch of 1; needed at least 2"),
    ("nt_xent_loss", (Z, Z, -0.5), {}, ValueError, "temperature=-0.5; needed a finite number, above 0"),
    ("nt_xent_loss", (ONE, ONE), {}, ValueError, "za holds a batch of 1; needed at least 2"),
    ("nt_xent_loss", (NONE, NONE), {}, ValueError, "za holds a batch of 0; needed at least 2"),
    ("nt_xent_loss", (Z[0], Z[0]), {}, ValueError, "za has shape (3,); needed 2 axes, (n, dim)"),
    ("nt_xent_loss", (Z[:, :0], Z[:, :0]), {}, ValueError, "za has shape (2, 0); needed 2 axes, (n, dim), with dim at least 1"),
    ("nt_xent_loss", (Z, Z[:, :2]), {}, ValueError, "zb has shape (2, 2); needed that of za, (2, 3)"),
    ("nt_xent_loss", (Z, Z, np.ones(())), {}, TypeError, "needed a number"),
    ("supcon_loss", (ONE, np.array([0])), {}, ValueError, "z holds a batch of 1; needed at least 2"),
    ("supcon_loss", (Z, np.array([0.5, 1])), {}, TypeError, "labels has dtype float64; needed an integer dtype"),
    ("supcon_loss", (Z, np.array([0, 1, 2])), {}, ValueError, "labels has shape (3,); needed (2,), one for each row of z"),
    ("supcon_loss", (Z, array_api_strict.asarray([0, 1])), {}, TypeError, "z: numpy.ndarray, labels: array_api_strict.Array"),
    ("supcon_loss", (Z, YES, 0), {}, ValueError, "temperature=0; needed a finite number, above 0"),
]


@pytest.mark.parametrize("vjp", ["", "_vjp"])
@pytest.mark.parametrize(
    ("name", "args", "options", "error", "text"), REFUSALS, ids=[f"{r[0]}-{i}" for i, r in enumerate(REFUSALS)]
)
def test_refusal_names_the_argument(name, args, options, error, text, vjp):
    with pytest.raises(error, match=re.escape(text)):
        getattr(loss, name + vjp)(*args, **options)


def test_empty_batches_have_sums_and_terms():
    empty = np.zeros((0, 3))
    assert loss.mse_loss(empty, empty, reduction="sum") == 0
    assert loss.cross_entropy_loss(empty, np.zeros(0, int), reduction="none").shape == (0,)
    assert loss.triplet_loss(empty, empty, empty, reduction="none").shape == (0,)
    _, pullback = loss.mse_loss_vjp(empty, empty, reduction="none")
    assert pullback(empty, wrt="target").shape == (0, 3)


def test_numpy_scalars_are_numbers():
    assert loss.nt_xent_loss(Z, Z, np.float32(0.5)) == loss.nt_xent_loss(Z, Z, 0.5)
    assert loss.huber_loss(X, X, delta=np.int64(1)) == 0


def test_every_name_is_in_all_and_has_its_gradient():
    public = [name for name in vars(loss) if name.endswith(("_loss", "_loss_vjp")) or name.startswith("reparameterize")]
    assert sorted(public) == loss.__all__ == sorted(loss.__all__)
    assert {name.removesuffix("_vjp") for name in public} == {name for name in public if name + "_vjp" in public}
