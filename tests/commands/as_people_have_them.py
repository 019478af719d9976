"""Cases of photos and labels as people have them: how they are built, and the way that each goes.

A case is one line: its name, what builds it, and what is said or refused. `goes_through` takes it through check,
all of train that differs from case to case (the request, the look at the photos, the split), predict and evaluate with
one small model; a case with `trains=True` is trained, too.
"""

import csv
import functools
import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from fieldguide import check, evaluate, predict
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial import prepare as preparing
from fieldguide.data.look.source import as_source
from fieldguide.errors import FieldguideError
from tests.commands.by_the_report import train
from tests.conftest import write_photo

CLASSES = ("fox", "owl")
EACH = 4  # photos of a class
FILES = [(f"{name}{number}.png", name) for name in CLASSES for number in range(EACH)]
SETTINGS = (
    "model.backbone=test_resnet", "model.weights=none", "rules.backbones=null", "data.image_size_px=32",
    "training.batch_size=8", "training.phases=[{max_epochs: 1, augmentation: none}]", "training.rounds=0",
)  # fmt: skip
Given = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One way to have photos.

    Attributes:
        name: what a person would call it.
        build: makes it in a folder; gives the arguments of check and train.
        says: a pattern for what train says of it, if anything must be said.
        refused: a pattern for the message with which train refuses it.
        classes: photos of each class that check counts.
        settings: fields of the recipe, for check and train.
        judged: photos that evaluate judges; None: all of `classes`; 0: it refuses.
        trains: whether it is trained to the end.
    """

    name: str
    build: Callable[[Path], Given]
    says: str = ""
    refused: str = ""
    classes: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, EACH))
    settings: Sequence[str] = ()
    judged: int | None = None
    trains: bool = False


@functools.cache
def photo(name: str, number: int) -> bytes:
    """The bytes of a photo of a class."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.png")
        write_photo(path, CLASSES.index(name) + 1 if name in CLASSES else len(name), number)
        return path.read_bytes()


def write(root: Path, files: Mapping[str, bytes]) -> None:
    """Writes files below a folder, with the folders on their way."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def many(places: Mapping[str, str], each: int = EACH) -> dict[str, bytes]:
    """`{"site/fox": "fox"}`: four photos of a class in each folder, no two the same."""
    return {
        f"{place}/{name}{number}.png".lstrip("/"): photo(name, number + 100 * at)
        for at, (place, name) in enumerate(places.items())
        for number in range(each)
    }


def folders(places: Mapping[str, str] | Sequence[str] = CLASSES, more: Sequence[str] = ()) -> Callable[[Path], Given]:
    """Photos in these folders, each with the class that its photos show; `more` are other files, with any bytes."""
    shown = places if isinstance(places, Mapping) else {place: place.rpartition("/")[2] for place in places}

    def build(root: Path) -> Given:
        write(root / "photos", many(shown) | dict.fromkeys(more, b"left behind"))
        return {"photos": root / "photos"}

    return build


def table(
    content: str | bytes, name: str = "labels.csv", *, place: str = "", columns: str | None = None, inside: bool = True
) -> Callable[[Path], Given]:
    """Photos `fox0.png` to `owl3.png` in the folder `place`, and a table with this text beside them, or elsewhere."""

    def build(root: Path) -> Given:
        write(root / "photos" / place, {file: photo(of, int(file[3])) for file, of in FILES})
        path = root / ("photos" if inside else "tables") / name
        write(path.parent, {path.name: content.encode() if isinstance(content, str) else content})
        return {"photos": path, "columns": columns, "photos_folder": None if inside else root / "photos"}

    return build


def lines(pattern: str, heading: str = "", end: str = "\n") -> str:
    """One line per photo: `{f}` its name, `{n}` without ending, `{c}` its class, `{i}` a number, `{p}` a part."""
    parts = ("train", "train", "val", "test")
    made = [
        pattern.format(f=file, n=file[:-4], c=name, i=place, p=parts[place % EACH], g=f"site{place // 2}")
        for place, (file, name) in enumerate(FILES)
    ]
    return end.join([heading] * bool(heading) + made) + end


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a prediction."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def png(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    """An empty picture."""
    content = io.BytesIO()
    Image.new(mode, size).save(content, "PNG")
    return content.getvalue()


class _Heard(logging.Handler):
    """What commands say while they are quiet."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def tell(self, text: str) -> None:
        """A sentence of a command that writes to no screen."""
        self.text += text + "\n"

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(record.getMessage())


def goes_through(case: Case, root: Path, model: Path) -> None:
    """Takes a case through all commands; every one ends well, or with a message of ours."""
    given = case.build(root)
    of_table = {key: value for key, value in given.items() if key != "photos"}
    reading = [setting for setting in case.settings if setting.startswith("data.class_folder")]
    heard = _Heard()
    logger = logging.getLogger("fieldguide")
    logger.addHandler(heard)
    logger.setLevel(logging.INFO)
    try:
        _check(case, given, of_table, reading, heard)
        _train(case, given, of_table, root, heard)
        _predict(case, given, root, model)
        _evaluate(case, given, of_table, model)
    finally:
        logger.removeHandler(heard)
        logger.setLevel(logging.NOTSET)


def _check(case: Case, given: Given, of_table: Given, reading: Sequence[str], heard: _Heard) -> None:
    try:
        found = check(given["photos"], overrides=reading, tell=heard.tell, **of_table)
    except FieldguideError as error:
        assert case.refused and re.search(case.refused, str(error)), error
        return
    counts = {row["name"]: row["train"] + row["val"] + row["test"] for row in found.classes}
    assert {name: count for name, count in counts.items() if count} == dict(case.classes), counts
    if case.refused:
        assert found.exit_code == 1 or case.settings, "check does not say what train refuses"


def _train(case: Case, given: Given, of_table: Given, root: Path, heard: _Heard) -> None:
    source = as_source(given["photos"], of_table.get("photos_folder"), of_table.get("columns"))
    settings = [*SETTINGS, *case.settings]
    try:
        name, recipe, _ = preparing.demand_request(source, "resnet34-adam", settings, None, "cpu", [])
        prepared = preparing.prepare(source, recipe, Screen(quiet=True))
    except FieldguideError as error:
        assert case.refused and re.search(case.refused, str(error)), error
        return
    assert not case.refused, f"{case.name} was trained"
    assert set(prepared.split.classes) == set(case.classes) and name
    assert re.search(case.says, heard.text), heard.text
    if case.trains:
        run = train(given["photos"], output=root / "run", overrides=settings, quiet=True, **of_table)
        assert run.exit_code == 0 and run.result["num_classes"] == len(case.classes)
        again = evaluate(run.path, given["photos"], quiet=True, **of_table)
        assert again.figures["images"] > 0


def _predict(case: Case, given: Given, root: Path, model: Path) -> None:
    inputs = given.get("photos_folder") or given["photos"]
    inputs = inputs.parent if inputs.suffix in (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet") else inputs
    try:
        done = predict(model, inputs, root / "prediction.csv", engine="plain", quiet=True)
    except FieldguideError as error:
        assert case.refused, error
        return
    assert len(rows_of(root / "prediction.csv")) == done.images
    assert case.refused or done.images >= sum(case.classes.values())


def _evaluate(case: Case, given: Given, of_table: Given, model: Path) -> None:
    wanted = sum(case.classes.values()) if case.judged is None else case.judged
    try:
        found = evaluate(model, given["photos"], quiet=True, **of_table)
    except FieldguideError as error:
        assert not wanted or case.refused, error
        return
    assert found.figures["images"] == wanted, found
