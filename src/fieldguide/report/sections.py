"""What each section of a report says, as plain values; the templates say how it looks."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fieldguide.errors import counted
from fieldguide.evaluation.calibration import calibration_summary
from fieldguide.evaluation.label_errors import suspects
from fieldguide.evaluation.metrics import judge
from fieldguide.report import charts
from fieldguide.report.kept import MAPS, Kept
from fieldguide.report.matrix import confusion

COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
CHOSEN = "these photos also chose the epoch, so the figure is optimistic"  # beside every validation figure
NO_MAPS = {  # by the reason in the gallery's index
    "tokens": "There are no activation maps: the last features of this backbone are tokens, not a map",
    "one_cell": "There are no activation maps: the last feature map of this backbone is 1 x 1 at this image size. "
    "A larger data.image_size_px gives a map",
}


def chosen_note(result: Mapping[str, Any]) -> str:
    """What exactly the validation photos chose."""
    return f"these photos also chose {result['validation']['chose']['text']}, so the figure is optimistic"


def answer(kept: Kept) -> dict[str, Any]:
    """The answer in a sentence, and the key figures."""
    result, validation = kept.result, kept.result["validation"]
    test, times = result.get("test"), int(result.get("test_evaluations") or 0)
    return {
        "part": "test" if test else "validation",
        "judged": test or validation,
        "validation": validation,
        "test": test,
        "test_sentence": _test_sentence(bool(test), times),
        "trained_on": result["split"]["train"],
        "weights": result.get("weights") or {},
        "stopped": (result.get("stopped") or {}).get("text"),
        "unread": {"test": _unread(test or {}, "test"), "validation": _unread(validation, "validation")},
    }


def _unread(figures: Mapping[str, Any], part: str) -> str:
    """How many photos of a part are not counted; empty if there are none."""
    failed, left = len(figures.get("failed") or ()), int(figures.get("not_judged") or 0)
    unread = [f"{counted(failed, f'{part} photo')} unreadable; not counted"] if failed else []
    return "; ".join(unread + ([f"{counted(left, f'{part} photo')} not judged, because time was up"] if left else []))


def _test_sentence(has_test: bool, times: int) -> str:
    if not has_test and times == 0:
        return "The test set was never evaluated for this run."
    often = "once" if times <= 1 else f"{times} times"
    more = "Each look that changes a decision makes it more of a validation set."
    if not has_test:
        before = "before it was trained longer, or in an ensemble, so there is no test figure here"
        return f"The test set was evaluated {often} for this run, {before}. {more}"
    if times <= 1:
        return "The test set was evaluated once for this run."
    return f"The test set was evaluated {often} for this run; this is the latest figure. {more}"


def curves(kept: Kept) -> dict[str, Any]:
    """Charts of the training, and its phases and rounds."""
    return {
        "charts": [
            charts.curve(kept.history, "loss", "curve-loss"),
            charts.curve(kept.history, "accuracy", "curve-accuracy"),
            charts.rates(kept.history, "curve-rate"),
        ],
        "stages": kept.result.get("stages") or [],
        "kept": _what_is_kept(kept.result),
        "epochs": kept.result["epochs"],
    }


def _what_is_kept(result: Mapping[str, Any]) -> str:
    """The kept model in words. It is `chose` that says which; `soup` is about the last attempt at one."""
    best, chose = result["best_epoch"], result["validation"]["chose"]
    if chose["kind"] == "soup":
        return f"the model is the mean of epochs {', '.join(map(str, chose['epochs']))}; of these, {best} is the best"
    return f"the model is from epoch {best}"


def classes(kept: Kept) -> dict[str, Any] | None:
    """One row per class, and the matrix; None without predictions."""
    if kept.predictions is None:
        return None
    said = kept.predictions
    judged = judge(said.probabilities(), said.labels, said.classes, said.groups)
    taken_for: dict[str, list[dict[str, Any]]] = {}
    names = kept.predictions.classes
    whole = confusion(kept.predictions, most_classes=len(names))
    for cell in sorted(whole.cells, key=lambda cell: (-cell.count, cell.column)):
        if cell.row != cell.column:
            taken_for.setdefault(names[cell.row], []).append({"class": names[cell.column], "count": cell.count})
    trained = kept.photos_of_classes("train")
    rows = [
        row | {"trained_on": trained[row["class"]], "taken_for": taken_for.get(row["class"], [])}
        for row in judged["per_class"]
    ]
    return {"rows": rows, "matrix": confusion(kept.predictions), "pairs": judged["confused_pairs"], "judged": judged}


def gallery(kept: Kept) -> dict[str, Any] | None:
    """Photos to look at; None if the run kept none."""
    if kept.gallery is None:
        return None
    index, pictures = kept.gallery.index, kept.gallery.pictures
    photos = {
        file: entry | {"file": file} | {key: pictures.get(entry.get(key)) for key in ("thumbnail", *MAPS)}
        for file, entry in index["photos"].items()
    }

    def found(files: Any) -> list[dict[str, Any]]:
        return [photos[file] for file in files if file in photos]

    pairs = [
        pair | {"photos": found(pair["photos"]), "example": photos.get(pair["example"])} for pair in index["pairs"]
    ]
    return {
        "pairs": [pair for pair in pairs if pair["photos"]],
        "worst": found(index["worst"]),
        "least_sure": found(index["least_sure"]),
        "photos": photos,
        "no_maps": index["no_maps"] and NO_MAPS.get(index["no_maps"], NO_MAPS["tokens"]),  # earlier runs have words
    }


def label_errors(kept: Kept, calibration: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Likely label errors with their photos and the CSV to correct; None without predictions."""
    if kept.predictions is None or calibration is None:
        return None
    rows = suspects(kept.predictions, calibration["temperature"])
    content = base64.b64encode((kept.label_errors or "").encode()).decode("ascii")
    return {
        "rows": rows,
        "csv": f"data:text/csv;charset=utf-8;base64,{content}" if kept.label_errors is not None else None,
        "images": len(kept.predictions.files),
    }


def calibration(kept: Kept) -> dict[str, Any] | None:
    """Temperature, and figures before and after it; None without predictions."""
    if kept.predictions is None:
        return None
    found = kept.predictions
    summary = calibration_summary(found.logits, found.labels, groups=found.groups)
    curve = summary["coverage_curve"]
    coverage = np.array(curve["coverage"])
    points = [int(np.searchsorted(coverage, min(wanted, coverage[-1]) - 1e-9)) for wanted in COVERAGES]
    return summary | {
        "before_chart": charts.reliability(summary["reliability_before"], "reliability-before"),
        "after_chart": charts.reliability(summary["reliability_after"], "reliability-after"),
        "coverage_chart": charts.coverage(curve, "coverage"),
        "coverage_rows": [{name: curve[name][point] for name in curve} for point in dict.fromkeys(points)],
    }


def data(kept: Kept) -> dict[str, Any]:
    """The parts, what was excluded, and what `check` found."""
    trained = kept.photos_of_classes("train")
    reasons = Counter(row["reason"] or "no reason given" for row in kept.split if row["part"] == "excluded")
    sizes = sorted(trained.values())
    return {
        "parts": {part: kept.result["split"].get(part, 0) for part in ("train", "val", "test", "excluded")},
        "num_classes": kept.result["num_classes"],
        "sizes": f"{sizes[0]:,} each"
        if sizes[0] == sizes[-1]
        else f"{sizes[0]:,} to {sizes[-1]:,} per class, median {np.median(sizes):,g}",
        "chart": charts.class_sizes(sizes, "class-sizes"),
        "reasons": reasons.most_common(10),
        "remarks": kept.result.get("remarks") or [],
        "check": kept.check,
        "check_kinds": _by_kind(kept.check["findings"] if kept.check else ()),
        "fingerprint": kept.result["split"]["fingerprint"],
    }


def making(kept: Kept) -> dict[str, Any]:
    """Recipe, rules, machine and time."""
    result, environment = kept.result, kept.environment
    rules = result.get("rules") or {}
    limit = rules.get("max_parameters")
    return {
        "recipe": kept.recipe,
        "parameters": result["parameters"],
        "rules": rules,
        "limit": f"fewer than {limit:,}" if limit else "no limit",
        "seconds": result["seconds"],
        "images_per_second": result["images_per_second"],
        "epochs": counted(result["epochs"], "epoch"),
        "libraries": {name: version for name, version in (environment.get("libraries") or {}).items() if version},
        "environment": {
            name: environment.get(name) for name in ("device", "device_name", "cpus", "threads", "platform", "python")
        },
    }


def _by_kind(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per kind with the messages of its findings, in their order."""
    rows: dict[str, dict[str, Any]] = {}
    for finding in findings:
        row = rows.setdefault(
            finding["kind"], {"kind": finding["kind"], "severity": finding["severity"], "messages": []}
        )
        row["messages"].append(finding["message"])
    return list(rows.values())
