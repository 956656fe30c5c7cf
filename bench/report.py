"""From the results of a run to the pages: `python report.py RESULTS.json [DOCS]`; without DOCS it prints the report.

RESULTS is what pytest-benchmark wrote, or the docs/benchmarks/results.json that an earlier report left.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pages

Results = dict[str, Any]


def main(source: str, docs: str | None = None) -> int:
    """Write or print the report; 1 if a benchmark failed to run, 0 otherwise, whatever the ratios."""
    results = read(Path(source))
    if docs is None:
        print("\n".join(line for line in pages.benchmarks(results).splitlines() if not line.startswith("![")))
    else:
        import plots

        folder = Path(docs)
        plots.draw(results["rows"], results["about"]["peaks"], folder / "benchmarks")
        (folder / "benchmarks" / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        (folder / "benchmarks.md").write_text(pages.benchmarks(results))
        if any(row["table"] == "dense" for row in results["rows"]):
            (folder / "why-convolution.md").write_text(pages.why_convolution(results))
    for line in pages.complaints(results):
        print(line)
    return 1 if results["about"]["failed"] else 0


def read(path: Path) -> Results:
    """Return what the report needs of a run, and no more: rows, and what they are about."""
    raw = json.loads(path.read_text())
    rows = raw["rows"] if "rows" in raw else [benchmark["extra_info"] for benchmark in raw["benchmarks"]]
    return {"about": rounded(raw["about"]), "rows": [rounded(row) for row in rows if "table" in row]}


def rounded(value: Any) -> Any:
    """Keep four digits of every float: more are noise."""
    match value:
        case float():
            return float(f"{value:.4g}")
        case dict():
            return {name: rounded(part) for name, part in value.items()}
        case list():
            return [rounded(part) for part in value]
    return value


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
