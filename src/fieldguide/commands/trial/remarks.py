"""What a person should know of photos before they are trained on, as remarks."""

from collections.abc import Mapping, Sequence

from fieldguide.data.look.facts import Facts
from fieldguide.data.look.findings import ACROSS_PARTS, TWO_LABELS, Finding, Kind, Remark, Topic
from fieldguide.data.look.look_over import CheckReport
from fieldguide.data.look.scan import PhotoFolder
from fieldguide.data.look.value_range import clipped
from fieldguide.data.read.reading import ValueRange
from fieldguide.errors import PhotosError, counted, listing
from fieldguide.recipe.resolve import VALIDATION_SHARE
from fieldguide.recipe.schema import Recipe


def about_moot_settings(folder: PhotoFolder, recipe: Recipe) -> list[Remark]:
    """Split settings other than the defaults that do nothing, because the folder has validation photos.

    A run's recipe has every field, so a field that was set to its default looks like one that was not set.
    """
    share, seed = recipe.split.validation_share, recipe.split.seed
    moot = [f"split.validation_share {share}"] if share != VALIDATION_SHARE else []
    moot += [f"split.seed {seed}"] if seed != recipe.training.seed else []
    if not folder.has_validation or not moot:
        return []
    words = f"{' and '.join(moot)} {'have' if moot[1:] else 'has'} no effect: the photos of val/ are the validation"
    return [Remark(Topic.MOOT_SETTINGS, words, tuple(moot))]


def about_unreadable(facts: Sequence[Facts], unreadable: str) -> list[Remark]:
    """Remarks on unreadable photos; test photos never stop a training, because it does not need them."""
    failed = [entry for entry in facts if entry.reason]
    broken = {entry.photo.file: entry.reason for entry in failed if entry.photo.part != "test"}
    tested = {entry.photo.file: entry.reason for entry in failed if entry.photo.part == "test"}
    if broken and unreadable == "refuse":
        raise PhotosError(
            f"{counted(len(broken), 'photo')} cannot be read:\n{_reasons(broken)}\n"
            "Remove them, or train without them: --set data.unreadable=exclude"
        )
    told = []
    for files, what, fate in ((broken, "photo", "excluded"), (tested, "test photo", "not counted")):
        if files:
            words = f"{counted(len(files), what)} unreadable; {fate}:\n{_reasons(files)}"
            told.append(Remark(Topic.UNREADABLE, words, tuple(files)))
    return told


def _reasons(files: Mapping[str, str]) -> str:
    return listing([f"{file} {reason}" for file, reason in files.items()])


def about_findings(checked: CheckReport) -> list[Remark]:
    """Findings that make a figure wrong but do not stop a training."""
    labels = [finding for finding in checked.findings if finding.kind in TWO_LABELS]
    tested = [one for one in checked.findings if one.kind in ACROSS_PARTS and {"val", "test"} <= set(one.parts)]
    found = []
    if labels:
        photos = "1 photo has" if len(labels) == 1 else f"{len(labels):,} photos have"
        found.append(_listed(Topic.TWO_LABELS, f"{photos} two labels; one must be wrong", labels))
    if tested:
        photos = "1 photo is" if len(tested) == 1 else f"{len(tested):,} photos are"
        words = f"{photos} in val and in test. val chooses the epoch, so test accuracy may be too high"
        found.append(_listed(Topic.ACROSS_PARTS, words, tested))
    mixed = [finding for finding in checked.findings if finding.kind is Kind.VALUE_RANGES]
    found += [Remark(Topic.CLIPPED, finding.message, finding.files) for finding in mixed]
    alike = [finding for finding in checked.findings if finding.kind is Kind.SIMILAR_NAMES]
    found += [
        Remark(Topic.LAYOUT, f"{one.message}; if they are one class, give it one name", one.classes) for one in alike
    ]
    end = "too many to keep in one part. If they are frames of a burst, set split.group_pattern"
    chains = [finding for finding in checked.findings if finding.kind is Kind.LOOK_ALIKES]
    return found + [Remark(Topic.LOOK_ALIKES, f"{chain.message}; {end}", chain.files) for chain in chains]


def about_values(facts: Sequence[Facts], chosen: ValueRange) -> list[Remark]:
    """Photos whose values are clipped."""
    files = [entry.photo.file for entry in clipped(facts, chosen)]
    if not files:
        return []
    words = f"{counted(len(files), 'photo')} with values outside data.value_range, which are clipped:\n{listing(files)}"
    return [Remark(Topic.CLIPPED, words, tuple(files))]


def _listed(topic: Topic, words: str, findings: Sequence[Finding]) -> Remark:
    lines = listing([finding.message for finding in findings])
    return Remark(topic, f"{words}:\n{lines}", tuple(file for finding in findings for file in finding.files))
