"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import numconv

MODULES = [
    m.name for m in pkgutil.walk_packages(numconv.__path__, "numconv.") if m.name.rpartition(".")[2] not in ("__main__", "cuda")
]


@pytest.mark.parametrize("name", ["numconv", *MODULES])
def test_examples_run(name):
    if name in ("numconv.interop.torch", "numconv.interop.jax"):
        pytest.importorskip(name.rpartition(".")[2])  # the library it is for
    module = importlib.import_module(name)
    with np.printoptions(legacy=False):
        failures, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failures == 0


@pytest.mark.parametrize("name", [n for n in numconv.__all__ if not n.endswith("_vjp")])
def test_public_functions_have_an_example(name):
    f = getattr(numconv, name)
    doc = getattr(f, "__wrapped__", f).__doc__
    assert ">>>" in doc
