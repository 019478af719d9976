"""One run, or several as an ensemble, from paths to a predictor that keeps the runs' rules.

A run needs torch, and an export does not; torch takes seconds to import, so it waits until a run is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldguide.commands.judging.prompt import FEW, export_of
from fieldguide.commands.judging.seen_before import Before, read_before
from fieldguide.data.split.partition import Split, read_split
from fieldguide.deploy.answers import Answering
from fieldguide.deploy.names import AS_TRAINED, AUTO, INT8, PLAIN
from fieldguide.errors import UsageError
from fieldguide.export_folder import ExportFolder
from fieldguide.model.description import DESCRIPTION_FILE, Description, find_bundle, read_description
from fieldguide.recipe.load import read_recipe
from fieldguide.recipe.rules import Member, verdict_on_ensemble
from fieldguide.run_folder import RunFolder
from fieldguide.world import Device

if TYPE_CHECKING:
    from fieldguide.deploy.predictor import Predictor

Runs = str | Path | Sequence[str | Path]
ALLOW = "--allow-broken-rules"


@dataclass(frozen=True)
class Loaded:
    """A predictor of one run or several, and the paths of the runs and bundles, as given.

    `verdict` is that of `recipe.rules.verdict_on_ensemble` for several; None for one, whose training checked its rules.
    `remarks` are sentences about exports in int8 that are not used.
    """

    predictor: Answering
    paths: tuple[Path, ...]
    verdict: dict[str, Any] | None
    remarks: tuple[str, ...] = ()

    @property
    def broken_rules(self) -> tuple[str, ...]:
        """The rules that the ensemble breaks, as sentences."""
        return tuple(self.verdict["broken"]) if self.verdict else ()

    def sentences(self) -> list[str]:
        """What a person should know about the models."""
        if self.verdict is None:
            return [*self.remarks]
        broken = [f"rule broken, allowed by {ALLOW}: {problem}" for problem in self.broken_rules]
        return [*self.remarks, *broken, *self.verdict["unverified"]]

    def described(self) -> dict[str, Any]:
        """As plain data, for figures; empty for one run."""
        if self.verdict is None:
            return {}
        return {"ensemble": {"runs": [str(path) for path in self.paths], "rules": self.verdict}}


def load_runs(
    runs: Runs,
    device: Device,
    engine: str,
    *,
    draft: bool = False,
    allow_broken_rules: bool = False,
    flips: str = AS_TRAINED,
    allow_int8: bool = False,
    photos: int | None = None,
) -> Loaded:
    """Loads a run or a bundle, or several as an ensemble, which may break a run's rule if that is allowed.

    A run that holds a proven export in int8 has the engine `int8`, which `auto` may choose. With `allow_int8`, an
    export predicts by its file in int8. `photos` is how many will come (None: unknown): `auto` computes a few of them
    by the export that a run holds, without torch.

    Raises UsageError as `load_predictor`; for several also for a repeated run, different classes, or a broken rule.
    """
    try:
        paths = (Path(runs),) if isinstance(runs, str | Path) else tuple(map(Path, runs))
    except TypeError:
        raise UsageError(f"run: must be a run's folder or a list of them, not {type(runs).__name__}") from None
    if not paths:
        raise UsageError("no run is given")
    if any(map(is_export, paths)):
        return _load_export(paths, device, engine, flips, allow_broken_rules=allow_broken_rules, allow_int8=allow_int8)
    if len(paths) == 1:
        if allow_broken_rules:
            raise UsageError(f"{ALLOW}: is only for several runs; leave it out")
        made, remark = None, ""
        is_plain = engine == AUTO and flips == AS_TRAINED and not allow_int8 and str(device) in ("auto", "cpu")
        if is_plain and photos is not None and photos <= FEW:
            made, remark = export_of(run_of(paths[0]), read_description(find_bundle(paths[0])))
        if made is not None:
            return Loaded(made, paths, None)
        predictor, remarks = _load_one(paths[0], device, engine, flips, draft=draft, allow_int8=allow_int8)
        return Loaded(predictor, paths, None, (remark, *remarks) if remark else remarks)
    from fieldguide.deploy.ensemble import Ensemble, demand_same_classes

    names = [str(path) for path in paths]
    folders = [find_bundle(path) for path in paths]
    _demand_different(folders, names)
    descriptions = [read_description(folder) for folder in folders]
    demand_same_classes([description.classes for description in descriptions], names)
    of_runs = [run_of(path) for path in paths]
    members = [_member(*each) for each in zip(names, of_runs, descriptions, strict=True)]
    verdict = verdict_on_ensemble(members)
    if not verdict["kept"] and not allow_broken_rules:
        raise UsageError(*verdict["broken"], f"leave a run out, or allow it with {ALLOW}")
    found = [_load_one(path, device, engine, flips, draft=draft, allow_int8=allow_int8) for path in paths]
    remarks = tuple(remark for _, each in found for remark in each)
    return Loaded(Ensemble([predictor for predictor, _ in found], names), paths, verdict, remarks)


def _load_one(
    path: Path, device: Device, engine: str, flips: str, *, draft: bool, allow_int8: bool
) -> tuple["Predictor", tuple[str, ...]]:
    """A run with its engine int8, if it holds one that was proven; and remarks."""
    from fieldguide.commands.judging.held import AGAIN, int8_of
    from fieldguide.deploy.predictor import load_predictor

    file, remark = None, ""
    if engine in (AUTO, INT8) or allow_int8:
        file, remark = int8_of(run_of(path), read_description(find_bundle(path)))
    if allow_int8 and file is None:
        why = remark or f"{path}: holds no export in int8; make one: {AGAIN}"
        raise UsageError(f"--allow-int8: {why}")
    if flips != AS_TRAINED:
        file = None  # its mirror images are inside
    predictor = load_predictor(path, device, engine, draft=draft, flips=flips, int8_file=file)
    return predictor, (remark,) if remark else ()


def _load_export(
    paths: Sequence[Path], device: Device, engine: str, flips: str, *, allow_broken_rules: bool, allow_int8: bool
) -> Loaded:
    """An exported model, in its own runtime and as it is; raises UsageError for what it cannot do."""
    problems = []
    if len(paths) > 1:
        problems.append(f"{next(filter(is_export, paths))}: an export predicts alone; export the runs together")
    if engine not in (AUTO, PLAIN):
        problems.append(f"--engine {engine}: an export has its own runtime; leave it out")
    if str(device) not in ("auto", "cpu"):
        problems.append(f"--device {device}: exports run on the CPU here; leave it out")
    if flips != AS_TRAINED:
        problems.append(f"--flips {flips}: mirror images are inside an export; leave it out")
    if allow_broken_rules:
        problems.append(f"{ALLOW}: is only for several runs; leave it out")
    if problems:
        raise UsageError(*problems)
    from fieldguide.deploy.export.exported import load_exported

    return Loaded(load_exported(paths[0], allow_int8=allow_int8), tuple(paths), None)


def is_export(path: Path) -> bool:
    """Whether a path is an exported folder."""
    return ExportFolder(path).is_there


def identity_of(path: Path) -> str:
    """A text that differs where another model is at a path.

    Raises:
        UsageError: there is none, or it is damaged.
    """
    return str(ExportFolder(path).read()) if is_export(path) else repr(read_description(find_bundle(path)))


def run_of(path: Path) -> RunFolder | None:
    """The run that a path names, directly or by its bundle; None for an export, or a bundle without its run."""
    if is_export(path):
        return None
    bundle = find_bundle(path)
    here = (RunFolder(path), RunFolder(bundle.resolve().parent))
    return next((run for run in here if run.recipe.is_file() and run.bundle.resolve() == bundle.resolve()), None)


def split_of(path: Path) -> Split | None:
    """The split of the run that a path names, directly or by its bundle; None if there is none."""
    run = run_of(path) or RunFolder(path)
    return read_split(run.split) if run.split.is_file() else None


def class_folder_of(paths: Sequence[Path]) -> str:
    """Which of nested folders the runs took as the class; `first` where that is unknown or differs."""
    runs = [run for path in paths if (run := run_of(path))]
    found = {read_recipe(run.recipe).data.class_folder for run in runs}
    return found.pop() if len(found) == 1 else "first"


def two_labels_of(paths: Sequence[Path]) -> str:
    """What becomes of photos to which a table gives two labels; `refuse` where that is unknown or differs."""
    runs = [run for path in paths if (run := run_of(path))]
    found = {read_recipe(run.recipe).data.two_labels for run in runs}
    return found.pop() if len(found) == 1 else "refuse"


def looks_like_run(path: Path) -> bool:
    """Whether a path is a run, a bundle or an export, whole or not, rather than photos; False if it cannot be read."""
    run = RunFolder(path)
    try:
        return (
            is_export(path)
            or run.recipe.is_file()
            or any((folder / DESCRIPTION_FILE).is_file() for folder in (path, run.bundle))
        )
    except OSError:  # a name that is too long, a folder without permission: reading it reports that
        return False


def runs_and_images(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The arguments of `predict`: runs first, of which there is at least one, then photos; else raises UsageError."""
    count = next((place for place, path in enumerate(paths) if place and not looks_like_run(path)), len(paths))
    runs, images = list(paths[:count]), list(paths[count:])
    if not images:
        raise UsageError("IMAGES are missing: fieldguide predict RUN... IMAGES... -o FILE")
    if late := [path for path in images if looks_like_run(path)]:
        raise UsageError(f"{late[0]}: is a run after {images[0]}; give runs first, then photos")
    return runs, images


def runs_and_photos(paths: Sequence[Path]) -> tuple[list[Path], Path]:
    """The arguments of `evaluate`: runs, then the folder of photos; else raises UsageError."""
    if len(paths) < 2 or looks_like_run(paths[-1]):
        raise UsageError("PHOTOS is missing: fieldguide evaluate RUN... PHOTOS")
    return list(paths[:-1]), paths[-1]


def _demand_different(folders: Sequence[Path], names: Sequence[str]) -> None:
    first: dict[Path, int] = {}
    twice = [
        f"{names[place]}: is the same model as {names[other]}; leave one of them out"
        for place, folder in enumerate(folders)
        if (other := first.setdefault(folder.resolve(), place)) != place
    ]
    if twice:
        raise UsageError(*twice)


def _member(name: str, run: RunFolder | None, description: Description) -> Member:
    from fieldguide.model.classifier import count_parameters, make_on_meta

    split = split_of(run.path) if run else None
    before = read_before(run) if run else Before(unknown=(name,))
    rows = split.rows if split else ()
    return Member(
        name=name,
        backbone=description.architecture.backbone,
        parameters=count_parameters(make_on_meta(description.architecture))["total"],
        pretrained_on=description.pretrained_on,
        rules=read_recipe(run.recipe).rules if run else None,
        photos=frozenset(row.content_hash for row in rows if row.content_hash),
        before=None if before.unknown else before.contents,
        licence=description.licence,
    )
