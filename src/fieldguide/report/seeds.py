"""A row of the table of methods for all seeds of a recipe: mean and spread."""

from collections.abc import Sequence

from fieldguide.evaluation.intervals import spread
from fieldguide.report.comparison import Row


def seeds_row(name: str, rows: Sequence[Row], unlike: str = "") -> Row:
    """Mean, standard deviation and the mean's 95 % t-interval over seeds.

    Of one or more rows of the table, a row with the same keys; `unlike` says how the trainings differ besides their
    seeds. Its intervals are for other seeds on the same photos; the rows of the single runs have intervals for other
    photos. Test figures from different photos have no mean.
    """
    first, n = rows[0], len(rows)
    made: Row = {
        **first,
        "method": f"{name}, mean of {n} seeds",
        "minutes": sum(row["minutes"] for row in rows) / n,
        "seeds": n,
        "validation_note": f"mean over {n} seeds with Student's t-interval; chosen on these photos: each run's epoch"
        + (f"; {unlike}" if unlike else ""),
    }
    tested = {(row["test_photos_sha256"], row["test_images"]) for row in rows if row["test_photos_sha256"] is not None}
    for part in ("validation", "test"):
        accuracies = [row[f"{part}_accuracy"] for row in rows]
        found = None if None in accuracies or (part == "test" and len(tested) > 1) else spread(accuracies)
        made[f"{part}_accuracy"] = found and found.mean
        made[f"{part}_deviation"] = found and found.deviation
        made[f"{part}_low"] = found and found.low
        made[f"{part}_high"] = found and found.high
        made[f"{part}_images"] = found and first[f"{part}_images"]
    scores = [row["test_score"] for row in rows]
    made["test_score"] = None if None in scores else sum(scores) / n
    if any(row["test_photos_sha256"] != first["test_photos_sha256"] for row in rows):
        made["test_photos_sha256"] = None
    return made
