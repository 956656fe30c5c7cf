"""Settings every test shares: hypothesis without deadlines, because a first call compiles; a mark for tests of CUDA kernels."""

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=2000)
if hypothesis.settings.get_current_profile_name() != "ci":
    hypothesis.settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what compiles or emulates CUDA kernels, some thousand of them, as "cuda"."""
    for item in items:
        if "cuda" in item.nodeid or "[cupy" in item.nodeid or "bench_gpu" in item.nodeid:
            item.add_marker("cuda")
