"""The page of a run: one file that needs no network, no model and no other photos."""

import base64
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fieldguide.errors import duration
from fieldguide.report import sections
from fieldguide.report.kept import read_kept
from fieldguide.run_folder import RunFolder

SCRIPT, STYLE = "page.js", "page.css"
MOST_DECIMALS = 4


def page(run: RunFolder) -> str:
    """The report of a finished run as one HTML document.

    Raises:
        UsageError: no finished run, or a damaged file in it.
    """
    kept = read_kept(run)
    calibration = sections.calibration(kept)
    return render(
        "report.html.j2",
        name=kept.name,
        result=kept.result,
        note=sections.CHOSEN,
        full_note=sections.chosen_note(kept.result),
        answer=sections.answer(kept),
        curves=sections.curves(kept),
        classes=sections.classes(kept),
        gallery=sections.gallery(kept),
        calibration=calibration,
        labels=sections.label_errors(kept, calibration),
        data=sections.data(kept),
        making=sections.making(kept),
    )


def render(template: str, **values: Any) -> str:
    """A template with escaped values, the style, and the one script that its policy allows."""
    loader = PackageLoader("fieldguide.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": percent, "points": points, "duration": duration}
    script, style = (loader.get_source(environment, name)[0] for name in (SCRIPT, STYLE))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    # Both are unchanged files of this package: no value of a run gets into them.
    return environment.get_template(template).render(
        script=Markup(script), style=Markup(style), script_digest=digest, **values
    )


def percent(share: float | None, decimals: int = 1) -> str:
    """A share with a % sign."""
    return "–" if share is None else f"{points(share, decimals)} %"


def points(share: float | None, decimals: int = 1) -> str:
    """A share in percent without the sign, for the bounds of an interval.

    It has more decimals if the share would wrongly round to 0 or 100: 2,999 of 3,000 photos are 99.97.
    """
    if share is None:
        return "–"
    for places in range(decimals, MOST_DECIMALS + 1):
        text = f"{100 * share:.{places}f}"
        if float(text) not in (0, 100) or share <= 0 or share >= 1:
            return text
    return f"< {10**-MOST_DECIMALS:g}" if share < 0.5 else f"> {100 - 10**-MOST_DECIMALS:.{MOST_DECIMALS}f}"
