"""The backbones that `model.backbone: auto` can choose from here: within the rules, with weights at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldguide.assemble.backbone import MOST_GMACS_WITHOUT_MINUTES, has_room, is_allowed
from fieldguide.errors import UsageError, counted
from fieldguide.model import pretrained
from fieldguide.model.description import find_bundle, read_description
from fieldguide.model.matching import SUFFIXES, files_in, names_for
from fieldguide.model.table import Candidate as Row
from fieldguide.model.table import KnownBackbone, candidates, known_backbones
from fieldguide.recipe.schema import Recipe

MOST_GMACS_UNMEASURED = 2.5  # the cost of a ConvNeXt Nano at 224 px; a choice for CPUs
MOST_RESNETS = 6  # where the rules name the backbones


@dataclass(frozen=True)
class Candidate:
    """A backbone with its weights, and how it was found."""

    backbone: str
    weights: str  # hub, a file, or an earlier run
    told: str = ""


def candidates_at_hand(recipe: Recipe, num_classes: int) -> tuple[list[Candidate], list[str]]:
    """All candidates for a recipe with `model.backbone: auto`, and sentences on what was left out.

    Raises:
        UsageError: `model.weights` is a file or a folder without weights of a known network, or the Hub has to be asked
            and does not answer.
    """
    if recipe.model.weights == "hub":
        return _of_hub(recipe, num_classes)
    found, told = _of_path(Path(recipe.model.weights), recipe.model.weights)
    kept = [each for each in found if _is_within(recipe, each, num_classes)]
    if found and not kept:
        names = ", ".join(each.backbone for each in found)
        raise UsageError(f"model.backbone: auto found {names} in {recipe.model.weights}, but the rules do not allow it")
    return kept, told


def within_rules(recipe: Recipe, num_classes: int) -> list[Row | KnownBackbone]:
    """The candidates of the tables that the rules allow, whether or not their weights can be had."""
    rows = candidates() if recipe.rules.backbones is None else _best_for_their_cost(recipe)
    return [row for row in rows if _is_within(recipe, Candidate(row.name, "hub"), num_classes)]


def by_reputation(found: Sequence[Candidate]) -> list[Candidate]:
    """The most accurate on ImageNet as published first, where nothing is measured; costly and unknown ones last."""
    rows: Sequence[Row | KnownBackbone] = (*candidates(), *known_backbones())
    known = {row.name: row for row in reversed(rows) if row.gmacs <= MOST_GMACS_UNMEASURED}
    published = {name: row.top1_percent or 0.0 for name, row in known.items()}
    return sorted(found, key=lambda each: -published.get(each.backbone, 0.0))


def _of_hub(recipe: Recipe, num_classes: int) -> tuple[list[Candidate], list[str]]:
    """Those of the table that are in the Hub's cache, or can be fetched."""
    allowed = [row.name for row in within_rules(recipe, num_classes)]
    cached = [name for name in allowed if pretrained.is_cached(name)]
    if len(cached) == len(allowed):
        return [Candidate(name, "hub", "in the Hub's cache") for name in allowed], []
    silence = pretrained.silence_of_hub()
    if silence is None:
        return [Candidate(name, "hub", "from the Hub") for name in allowed], []
    if not cached and allowed:
        raise UsageError(
            f"model.weights: none of the {counted(len(allowed), 'candidate')} of model.backbone: auto is in the Hub's "
            f"cache ({silence}); {pretrained.INSTEAD}"
        )
    missing = f"{len(allowed) - len(cached)} of {len(allowed)} backbones are not in the Hub's cache ({silence})"
    return [Candidate(name, "hub", "in the Hub's cache") for name in cached], [missing]


def _best_for_their_cost(recipe: Recipe) -> list[KnownBackbone]:
    """The ResNets within the rules than which no cheaper one is more accurate on ImageNet; the most accurate ones."""
    best: list[KnownBackbone] = []
    for known in sorted(known_backbones(), key=lambda known: (known.gmacs, -known.top1_percent)):
        is_better = not best or known.top1_percent > best[-1].top1_percent
        if is_better and known.gmacs <= MOST_GMACS_WITHOUT_MINUTES and is_allowed(recipe, known.name, known.parameters):
            best.append(known)
    return best[::-1][:MOST_RESNETS]


def _is_within(recipe: Recipe, found: Candidate, num_classes: int) -> bool:
    rows: Sequence[Row | KnownBackbone] = (*candidates(), *known_backbones())
    parameters = next((row.parameters for row in rows if row.name == found.backbone), 0)
    if not is_allowed(recipe, found.backbone, parameters, is_known=found.weights == "hub"):
        return False
    return has_room(recipe, found.backbone, num_classes)


def _of_path(path: Path, source: str) -> tuple[list[Candidate], list[str]]:
    """Of a file, a folder of files, or an earlier run, whose backbone stands in its bundle."""
    if path.is_file():
        files = [path]
    elif not path.is_dir() or not (files := files_in(path)):
        return [Candidate(read_description(find_bundle(path)).architecture.backbone, source, "an earlier run")], []
    elif any((path / name).exists() for name in ("model.json", "recipe.yaml")):
        return [Candidate(read_description(find_bundle(path)).architecture.backbone, source, "a bundle")], []
    found: list[tuple[int, Candidate]] = []
    unknown: list[str] = []
    for file in files:
        try:
            names, how = names_for(file)
        except UsageError as error:
            names, how = [], str(error)
        of_file = (Candidate(name, str(file.resolve()), f"{file.name}, {how}") for name in names)
        found += enumerate(of_file)  # the likeliest of each file first
        unknown += (
            [] if names else [f"{file.name} fits no backbone that fieldguide can guess; name it in model.backbone"]
        )
    if not found:
        raise UsageError(f"model.weights: {source}: {'; '.join(unknown)} (looked for {', '.join(SUFFIXES)})")
    return [each for _, each in sorted(found, key=lambda pair: pair[0])], unknown
