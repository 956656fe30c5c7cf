"""How a benchmark runs: `race` sets our call beside the peers', and pytest-benchmark times ours."""

import machine
import numba
import peers
import pytest
from measure import Measurement
from timing import Pace, keep_memory


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="a few rows of every table, at a quick pace")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: left out by --quick")
    config.failed = []
    keep_memory()
    peers.set_threads(numba.get_num_threads())


def pytest_collection_modifyitems(config, items):
    if config.getoption("quick"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("full")])
        items[:] = [item for item in items if not item.get_closest_marker("full")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        why = str(call.excinfo.value).partition("\n")[0][:200]
        item.config.failed.append(f"{item.name}: {call.excinfo.typename}: {why}")
    return report


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Say in the results what they are about: pytest-benchmark knows less of it, and writes more."""
    output_json["about"] = {
        "facts": machine.facts(),
        "peaks": machine.peaks(),
        "missing": peers.MISSING,
        "failed": config.failed,
        "quick": config.getoption("quick"),
    }


@pytest.fixture(scope="session")
def costs():
    """Seconds per operation of direct methods, by table, dtype and peer: what the next larger filter will take."""
    return {}


@pytest.fixture
def pace(request):
    return Pace(3, 0.02, 0.03) if request.config.getoption("quick") else Pace()


@pytest.fixture
def race(benchmark, costs, pace):
    return Measurement(benchmark, costs, pace)
