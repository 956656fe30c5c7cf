"""Settings every test shares: hypothesis without deadlines, because a first call compiles."""

import hypothesis

hypothesis.settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=2000)
if hypothesis.settings.get_current_profile_name() != "ci":
    hypothesis.settings.load_profile("default")
