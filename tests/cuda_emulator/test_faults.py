"""The planting of faults itself: what counts as caught, and what does not."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from .faults import plant


def hold(path, careful=True):
    """Catch a fault in a text, if careful."""
    if careful and Path(path).read_text() != "a right text":
        sys.exit("caught: it is wrong")
    print("nothing found")


def abort(path):
    os.abort()


def test_a_fault_is_caught(tmp_path):
    plant(tmp_path, hold, "a right text", ("right", "wrong"))
    plant(tmp_path, hold, "a right text", None)
    plant(tmp_path, abort, "a right text", ("right", "wrong"), crashes=(signal.SIGABRT,))


@pytest.mark.parametrize(
    ("run", "text", "fault", "more"),
    [
        (hold, "a right text", ("right", "wrong"), (False,)),  # nobody sees it
        (hold, "a left text", None, ()),  # seen where there is none
        (hold, "a right text", ("left", "right"), ()),  # not planted
        (abort, "a right text", ("right", "wrong"), ()),  # not an end that was expected
    ],
)
def test_all_else_is_not(tmp_path, run, text, fault, more):
    with pytest.raises(AssertionError):
        plant(tmp_path, run, text, fault, *more)
