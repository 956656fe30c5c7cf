"""Compilation where it is hard: nowhere to write, other threads, forked children. Each in a process of its own."""

import os
import subprocess
import sys

import pytest

CALL = """
import numpy as np, numconv
def call():
    y = numconv.conv1d(np.ones((4, 2, 64), np.float32), np.ones((3, 2, 5), np.float32))
    assert (y == 10).all(), y
"""


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", CALL + code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_works_where_nothing_is_writable():
    run(
        "import tempfile, numba.core.caching as c\n"
        "def refuse(*a, **k): raise OSError('read-only')\n"
        "c.tempfile.TemporaryFile = refuse\n"
        "call()"
    )


def test_works_in_threads_that_call_at_once():
    run(
        "import threading\n"
        "failures = []\n"
        "threading.excepthook = lambda args: failures.append(args)\n"
        "threads = [threading.Thread(target=lambda: [call() for _ in range(20)]) for _ in range(4)]\n"
        "[t.start() for t in threads]; [call() for _ in range(20)]; [t.join() for t in threads]\n"
        "assert not failures, failures",
        NUMBA_THREADING_LAYER="workqueue",
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_works_in_a_forked_child():
    run(
        "import os, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "call()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    call(); os._exit(0)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0"
    )


def test_a_second_process_loads_from_disk(tmp_path):
    run("call()", NUMBA_CACHE_DIR=str(tmp_path))
    before = set(tmp_path.rglob("*.nbc"))
    assert before
    run(
        "call()\nfrom numconv.conv.cpu.correlate import correlate\n"
        "assert [c.cache_hits for c in correlate._compiled] == [1], correlate._compiled",
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert set(tmp_path.rglob("*.nbc")) == before
