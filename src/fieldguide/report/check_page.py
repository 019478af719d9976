"""The findings of a check as one HTML file: no script, nothing from the network, light and dark, fits a phone."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

SHOWN_FILES = 200


def check_page(report: Mapping[str, Any], meanings: Mapping[str, str], thumbnails: Mapping[str, str]) -> str:
    """The page of a report as in `--json`; a file without a `data:` address in `thumbnails` is shown by name."""
    environment = Environment(
        loader=PackageLoader("fieldguide", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for finding in report["findings"]:
        kinds[finding["kind"]].append(finding)
    return environment.get_template("check_page.html.jinja").render(
        report=report,
        kinds=kinds,
        meanings=meanings,
        thumbnails=thumbnails,
        largest=max((entry["train"] for entry in report["classes"]), default=0) or 1,
        harmful=sum(finding["severity"] == "harm" for finding in report["findings"]),
        shown_files=SHOWN_FILES,
    )
