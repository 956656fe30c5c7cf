"""Words by hand for the report: what bounds a goal that was not met, by its key in `goals.py`. Shown only while it is not met."""

BOUNDS: dict[str, str] = {}
