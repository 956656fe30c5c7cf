"""The twins of the PTX wrappers: as they are defined, and as a GPU has them."""

from __future__ import annotations

import numpy as np
import pytest

from .cuda_emulator import conformance
from .cuda_emulator.emulator import MISSING
from .cuda_emulator.stand_in import stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_as_defined(seed):
    with stand_in(seed) as cupy:
        found = conformance.outputs(cupy, cupy.asarray(np.zeros(1)))
    assert found.keys() == conformance.expected().keys()
    assert conformance.disagreements(found, conformance.expected()) == {}


def test_as_on_a_gpu():
    if not conformance.GOLDEN.exists():
        pytest.skip("no GPU has run the wrappers yet: python -m bench.gpu on one writes golden.npz")
    with stand_in() as cupy:
        found = conformance.outputs(cupy, cupy.asarray(np.zeros(1)))
    with np.load(conformance.GOLDEN) as golden:
        assert conformance.disagreements(found, dict(golden)) == {}


def test_disagreements_are_seen():
    said = conformance.expected()
    assert conformance.disagreements(said, said) == {}
    for name in said:
        wrong = {key: value.copy() for key, value in said.items()}
        wrong[name][1] = wrong[name][1] + 1
        assert conformance.disagreements(wrong, said).keys() == {name}
