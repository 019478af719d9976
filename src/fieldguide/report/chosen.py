"""How validation chose the model of a run: `validation.chose` in `result.json`."""

from collections.abc import Mapping, Sequence
from typing import Any


def chosen(
    epochs: Sequence[int], among: int, best_by: str, metric: str, test_settings: int = 0, photos: int | None = None
) -> dict[str, Any]:
    """The choice of one training, as plain data with its words.

    Args:
        epochs: of the model: one, or those of a greedy soup.
        among: epochs trained.
        best_by, metric: as in the recipe.
        test_settings: test sizes and crops tried; 0 if that of the training is kept.
        photos: the most validation photos that chose the epoch; None: all.
    """
    kind = "soup" if len(epochs) > 1 else "epoch"
    data = {"kind": kind, "epochs": list(epochs), "among": among, "by": best_by, "metric": metric}
    data |= {"test_settings": test_settings, "photos": photos}
    return data | {"text": words(data)}


def chosen_in_folds(folds: int, best_by: str, metric: str, *, sizes: bool) -> dict[str, Any]:
    """The choice of a cross-validation, in each fold; `sizes`: some fold also chose a test size or crop."""
    data = {"kind": "folds", "folds": folds, "by": best_by, "metric": metric, "test_settings": int(sizes)}
    return data | {"text": words(data)}


def words(chose: Mapping[str, Any]) -> str:
    """The choice as a person reads it."""
    by = "validation loss" if chose["by"] == "validation_loss" else f"validation {chose['metric'].replace('_', ' ')}"
    if chose["kind"] == "folds":
        size = ", test size and crop" if chose["test_settings"] else ""
        return f"the epoch{size} of each of {chose['folds']} folds, by {by}"
    numbers = ", ".join(map(str, chose["epochs"]))
    model = f"the greedy soup of epochs {numbers}" if chose["kind"] == "soup" else f"epoch {numbers}"
    tried = f", and the test size and crop among {chose['test_settings']}" if chose["test_settings"] else ""
    some = f" on at most {chose['photos']:,} of them" if chose["photos"] else ""
    return f"{model} of {chose['among']}, by {by}{some}{tried}"
