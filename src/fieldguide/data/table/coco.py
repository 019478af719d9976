"""COCO Camera Traps (images, annotations, categories) as columns of text."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fieldguide.errors import UsageError

FILE, LABEL = "file_name", "category"


def is_coco(data: Any) -> bool:
    """Whether JSON has the lists of a COCO file."""
    return isinstance(data, dict) and all(isinstance(data.get(key), list) for key in ("images", "annotations"))


def rows_of_coco(data: dict[str, Any], name: str) -> dict[str, Sequence[str]]:
    """One row per image and category, with the image's other fields (location, seq_id); no category: an empty text.

    Raises UsageError if a record has no id, or names one that does not exist.
    """
    try:
        names = {one["id"]: str(one["name"]) for one in data.get("categories") or []}
        labels: dict[Any, list[str]] = defaultdict(list)
        known = {image["id"] for image in data["images"]}
        for number, annotation in enumerate(data["annotations"], start=1):
            if annotation["image_id"] not in known:
                raise UsageError(
                    f"{name}: annotation {number} is of image {annotation['image_id']}, which is not there"
                )
            label = names[annotation["category_id"]]
            if label not in labels[annotation["image_id"]]:
                labels[annotation["image_id"]].append(label)
        images = [image for image in data["images"] if image[FILE]]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{name}: is not COCO Camera Traps: {type(error).__name__} {error} in a record") from None
    fields = [key for key in dict.fromkeys(key for image in images for key in image) if key != LABEL]
    rows = [(image, label) for image in images for label in labels.get(image["id"]) or [""]]
    columns: dict[str, Sequence[str]] = {key: [_text(image.get(key)) for image, _ in rows] for key in fields}
    return {LABEL: [label.strip() for _, label in rows], **columns}


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
