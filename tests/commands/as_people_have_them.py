"""Cases of photos and labels as people have them: how they are built, and the way that each goes.

A case is one line: its name, what builds it, and what is said or refused. `goes_through` takes it through check, train,
predict and evaluate. What is trained predicts and is evaluated on its own photos; one small model, shared by all cases,
does so as well, also where a training is refused.
"""

import contextlib
import csv
import functools
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from fieldguide import check, evaluate, predict
from fieldguide.commands.trial.carry_out import Run
from fieldguide.data.split.partition import read_split
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
SAME = "the same message"  # as that which refuses a training
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
        judged: photos that evaluate judges with the shared model; None: all of `classes`.
        unjudged: a pattern for the message with which that evaluation is refused.
        tested: photos of a labelled test; without, a run is evaluated on its own validation photos.
        rows: rows of a prediction; None: as many as `classes`.
        damaged: how many of these rows say that the photo is damaged.
        unread: a pattern for the message with which that prediction is refused.
        output: what a prediction writes, and check and evaluate as JSON, prepared in a folder; None: no such try.
        unwritten: a pattern for the message with which such an output is refused.
    """

    name: str
    build: Callable[[Path], Given]
    says: str = ""
    refused: str = ""
    classes: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, EACH))
    settings: Sequence[str] = ()
    judged: int | None = None
    unjudged: str = ""
    tested: int = 0
    rows: int | None = None
    damaged: int = 0
    unread: str = ""
    output: Callable[[Path], Path] | None = None
    unwritten: str = ""

    @property
    def photos(self) -> int:
        """Photos of all classes."""
        return sum(self.classes.values())


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
    """Takes a case through all commands; every one ends well, or with the message that the case expects."""
    given = case.build(root)
    before = contents_of(root)
    of_table = {key: value for key, value in given.items() if key != "photos"}
    heard = _Heard()
    logger = logging.getLogger("fieldguide")
    logger.addHandler(heard)
    logger.setLevel(logging.INFO)
    try:
        _check(case, given, of_table, heard)
        run = _train(case, given, of_table, root, heard)
        _predict(case, given, root, [model] if run is None else [model, run.path])
        _evaluate(case, given, of_table, model, run)
        if case.output is not None:
            _write(case, given, of_table, root, model)
    finally:
        logger.removeHandler(heard)
        logger.setLevel(logging.NOTSET)
    assert contents_of(root).items() >= before.items(), "a command changed what was given"


def contents_of(root: Path) -> dict[Path, bytes]:
    """The bytes of all files below a folder."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@contextlib.contextmanager
def refused_as(pattern: str) -> Iterator[None]:
    """Expects a message of ours that fits; none where the pattern is empty."""
    try:
        yield
    except FieldguideError as error:
        assert pattern and re.search(pattern, str(error)), error
    else:
        assert not pattern, f"not refused, but expected: {pattern}"


def _check(case: Case, given: Given, of_table: Given, heard: _Heard) -> None:
    reading = [setting for setting in case.settings if setting.startswith("data.class_folder")]
    try:
        found = check(given["photos"], overrides=reading, tell=heard.tell, **of_table)
    except FieldguideError as error:
        assert case.refused and re.search(case.refused, str(error)), error
        return
    counts = {row["name"]: row["train"] + row["val"] + row["test"] for row in found.classes}
    assert {name: count for name, count in counts.items() if count} == dict(case.classes), counts
    if case.refused:
        assert found.exit_code == 1 or case.settings, "check does not say what train refuses"


def _train(case: Case, given: Given, of_table: Given, root: Path, heard: _Heard) -> Run | None:
    """The run, which has these classes with these photos, and whose figures are of its own validation photos."""
    run = None
    with refused_as(case.refused):
        run = train(given["photos"], output=root / "run", overrides=[*SETTINGS, *case.settings], quiet=True, **of_table)
    if run is None:
        assert not (root / "run").exists()
        return None
    assert re.search(case.says, heard.text), heard.text
    used = [row for row in read_split(run.path / "split.csv").rows if row.class_name and row.part != "excluded"]
    assert Counter(row.class_name for row in used) == dict(case.classes)
    assert run.exit_code == 0 and run.result["num_classes"] == len(case.classes)
    validation = run.result["validation"]
    assert validation["images"] == sum(row.part == "val" for row in used) > 0 and not validation["failed"]
    return run


def _predict(case: Case, given: Given, root: Path, models: Sequence[Path]) -> None:
    """A row for each photo, with a class that the model knows; the same for the photos that a table lists."""
    inputs = given.get("photos_folder") or given["photos"]
    is_table = inputs.suffix in (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet")
    inputs = inputs.parent if is_table else inputs
    wanted = case.photos if case.rows is None else case.rows
    for model in models:
        output = root / "prediction.csv"
        with refused_as(case.refused if case.unread == SAME else case.unread):
            done = predict(model, inputs, output, engine="plain", quiet=True)
            rows = rows_of(output)
            known = CLASSES if model == models[0] else case.classes
            assert len({row["image"] for row in rows}) == len(rows) == done.images == wanted, (rows, done)
            damaged = [row for row in rows if row["status"].startswith("failed: is damaged")]
            assert len(damaged) == case.damaged == len(done.failed)
            fine = [row for row in rows if row not in damaged]
            assert {row["status"] for row in fine} == {"ok"} and {row["label"] for row in fine} <= set(known)


def _evaluate(case: Case, given: Given, of_table: Given, model: Path, run: Run | None) -> None:
    with refused_as(case.refused if case.unjudged == SAME else case.unjudged):
        found = evaluate(model, given["photos"], quiet=True, **of_table)
        assert found.figures["images"] == (case.photos if case.judged is None else case.judged), found
    if run is not None:
        own = evaluate(run.path, given["photos"], quiet=True, **of_table).figures
        assert own["images"] == (case.tested or run.result["validation"]["images"])
        assert [row["class"] for row in own["per_class"]] == sorted(case.classes)


def _write(case: Case, given: Given, of_table: Given, root: Path, model: Path) -> None:
    """Each command writes this output whole and leaves a link as it is, or refuses and changes nothing."""
    assert case.output is not None
    ways: tuple[Callable[[Path], object], ...] = (
        lambda output: predict(model, given["photos"], output, engine="plain", quiet=True),
        lambda output: check(given["photos"], json_file=output, **of_table),
        lambda output: evaluate(model, given["photos"], json_file=output, quiet=True, **of_table),
    )
    for number, write_to in enumerate(ways):
        output = case.output(root / str(number))
        leads_to = output.readlink() if output.is_symlink() else None
        before = contents_of(root)
        with refused_as(case.unwritten):
            write_to(output)
            assert (len(rows_of(output)) if number == 0 else len(json.loads(output.read_text()))) >= case.photos / 2
            before = {path: content for path, content in before.items() if path.resolve() != output.resolve()}
        assert (output.readlink() if output.is_symlink() else None) == leads_to
        assert contents_of(root).items() >= before.items()
