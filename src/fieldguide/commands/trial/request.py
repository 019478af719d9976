"""What a run remembers of its request, so that another process can resume it, and what has changed since."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fieldguide import assemble
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.prepare import Prepared, prepare
from fieldguide.data.look.find import find_photos, is_table
from fieldguide.data.look.findings import Remark, Topic
from fieldguide.data.look.inspect import inspect
from fieldguide.data.look.scan import PhotoFolder
from fieldguide.data.look.source import Source
from fieldguide.data.split.partition import Split, read_split, split_csv
from fieldguide.errors import PhotosError, UsageError, counted, listing
from fieldguide.model.weights import LoadedWeights
from fieldguide.recipe.lives import ResolvedRecipe
from fieldguide.recipe.load import read_draft, to_yaml
from fieldguide.recipe.overrides import Overrides
from fieldguide.recipe.resolve import as_planned
from fieldguide.recipe.schema import Recipe
from fieldguide.run_folder import RunFolder
from fieldguide.storage import digest, file_digest, is_there, read_json, write_text

FORMAT = 2  # 1 differs in other files alone
# do not change what was trained
HARMLESS = ("training.checkpoint", "training.checkpoint_every_minutes", "training.more_epochs")


@dataclass(frozen=True)
class Request:
    """What was requested; `photos` (a folder, table or archive) and `photos_folder` (of a table) are absolute paths.

    `recipe` and `weights` (the source of the first weights) are plain data.

    `split_sha256` is of `split.csv`, or of `folds.csv` where it is a cross-validation: then the folder holds one run
    per fold. `rules` is the verdict on the rules, `plan` the plan when it began, in sentences, `backbones` what
    `model.backbone: auto` measured, `compiling` what was measured of torch.compile.
    """

    photos: str
    recipe_name: str
    recipe: Mapping[str, Any]
    split_sha256: str
    remarks: Sequence[str]
    rules: Mapping[str, Any]
    weights: Mapping[str, Any]
    device: str
    is_cross_validation: bool = False
    plan: Sequence[str] = ()
    backbones: Mapping[str, Any] | None = None
    compiling: str = ""
    photos_folder: str | None = None
    columns: str | None = None

    def source(self, photos: str | Path | None = None, folder: str | Path | None = None) -> Source:
        """Where the photos are; with other paths if they were moved. A folder in place of a table is the photos'."""
        path, place = Path(photos or self.photos), folder or self.photos_folder
        if photos is not None and folder is None and path.is_dir() and is_table(Path(self.photos)):
            path, place = Path(self.photos), path
        return Source(path, None if place is None else Path(place), self.columns)


def write_request(run: RunFolder, request: Request) -> None:
    """Writes it. File names that are not UTF-8 are escaped, so none is lost."""
    write_text(run.request, json.dumps({"format": FORMAT, **asdict(request)}, indent=2, allow_nan=False) + "\n")


def read_request(run: RunFolder) -> Request:
    """What was requested when the run began; raises UsageError if there is nothing to resume, or it is damaged."""
    if not is_there(run.path):
        raise UsageError(f"--resume {run.path}: no such run")
    if not run.can_go_on:
        why = "comes from a version that could not resume" if run.recipe.exists() else "is not a run"
        raise UsageError(f"--resume {run.path}: {why} (it has no {run.request.name})")
    data = read_json(run.request)
    try:
        if data.pop("format") not in (1, FORMAT):
            raise ValueError("another format")
        request = Request(**data)
        TypeAdapter(Request).validate_python(data)
        Recipe.model_validate(request.recipe)
        if not request.is_cross_validation:
            TypeAdapter(list[str]).validate_python(request.rules["unverified"])
            TypeAdapter(LoadedWeights).validate_python(request.weights)
    except (AttributeError, KeyError, TypeError, ValueError, ValidationError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise UsageError(f"{run.request}: is damaged ({type(error).__name__}: {first})") from None
    return request


def demand_same_recipe(run: RunFolder, request: Request, overrides: Overrides) -> ResolvedRecipe:
    """The run's recipe with harmless changes; raises UsageError that names each other field that has changed."""
    if not run.recipe.exists():  # killed before it was written
        write_recipe(run, Recipe.model_validate(request.recipe), request.recipe_name)
    recipe = read_draft(run.recipe, overrides).demand()
    began = Recipe.model_validate(request.recipe)  # fields of later versions have their defaults
    before, now = (dict(_fields(as_planned(each).model_dump(mode="json"))) for each in (began, recipe))
    changed = [
        f"{name} is {now.get(name)}, was {before.get(name)}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name) and name not in HARMLESS
    ]
    if changed:
        raise UsageError(
            f"--resume {run.path}: a run resumes with its own recipe; only {' and '.join(HARMLESS)} may change:\n"
            f"{listing(changed)}\nUndo this, or start a new run with another -o"
        )
    return assemble.resolved(recipe)


def write_recipe(run: RunFolder, recipe: Recipe, name: str) -> None:
    """Writes the resolved recipe."""
    heading = f"fieldguide train PHOTOS --recipe recipe.yaml -o RUN\nResolved from {name}"
    write_text(run.recipe, to_yaml(recipe, heading))


def _fields(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf by its full name; an empty section is a leaf."""
    inside = dict(enumerate(tree)) if isinstance(tree, list) else tree
    if not isinstance(inside, Mapping) or not inside:
        yield name, tree
        return
    for key, value in inside.items():
        yield from _fields(value, f"{name}.{key}" if name else str(key))


def same_photos(run: RunFolder, request: Request, source: Source, recipe: ResolvedRecipe, screen: Screen) -> Prepared:
    """The run's photos and split, after checking each training and validation photo.

    Raises UsageError if the split was changed; PhotosError if photos have changed or are missing, each named.
    """
    if not run.split.exists():  # killed before it was written
        prepared = prepare(source, recipe, screen)
        if digest(split_csv(prepared.split).encode()) != request.split_sha256:
            raise PhotosError(
                f"{source.path}: photos have changed since {run.path} began; start a new run with another -o"
            )
        return prepared
    if file_digest(run.split) != request.split_sha256:
        what_now = "restore it, or start a new run with another -o"
        raise UsageError(f"{run.split}: has changed since this run began; {what_now}")
    split, folder = read_split(run.split), find_photos(Source.of(source, recipe.data.class_folder), screen.say)
    demand_same_files(run, split, folder, recipe.data.max_megapixels, screen)
    check = read_json(run.check) if run.check.exists() else {}
    remarks = tuple(Remark(Topic.FROM_THE_RUN, sentence) for sentence in request.remarks)
    return Prepared(folder, split, remarks, (), check, backbones=request.backbones)


def demand_same_files(run: RunFolder, split: Split, folder: PhotoFolder, max_megapixels: float, screen: Screen) -> None:
    """Checks every training and validation photo against its checksum; names photos added since."""
    rows = {row.file: row for row in (*split.part("train"), *split.part("val"))}
    known = {row.file for row in split.rows}
    photos = [photo for photo in folder.photos if photo.file in rows]
    with screen.counting("comparing photos", len(photos)) as advance:
        looked = inspect(photos, max_megapixels, decode_parts=(), advance=advance)
    there = {entry.photo.file for entry in looked}
    wrong = [f"{file} is missing" for file in rows if file not in there]
    wrong += [
        f"{entry.photo.file} {entry.reason or 'has different content (another SHA-256)'}"
        for entry in looked
        if entry.reason or entry.content_hash != rows[entry.photo.file].content_hash
    ]
    wrong += [
        f"{photo.file} is {photo.class_name} now, was {rows[photo.file].class_name}"
        for photo in photos
        if photo.class_name != rows[photo.file].class_name
    ]
    if wrong:
        raise PhotosError(
            f"{folder.name}: {counted(len(wrong), 'photo')} changed since {run.path} began:\n{listing(wrong)}\n"
            "Restore them to resume, or start a new run with another -o"
        )
    if new := [photo.file for photo in folder.photos if photo.file not in known]:
        screen.warn(f"{counted(len(new), 'photo')} added after this run began; ignored:\n{listing(new)}")
