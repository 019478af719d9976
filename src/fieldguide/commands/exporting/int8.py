"""An export in int8: ranges from training photos, and accepted only if it shows that it loses no accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldguide.commands.exporting.proof import MOST_LOST, Answers, Proof, refusal
from fieldguide.deploy.export.exported import Exported
from fieldguide.deploy.export.formats import Format, Variant
from fieldguide.deploy.export.int8 import PHOTOS, Calibration, lost_share, remembered
from fieldguide.errors import ProofError, UsageError, counted
from fieldguide.evaluation.comparison import compare_predictions
from fieldguide.storage import digest

LEFT = 0.25  # of what plain int8 loses on training photos: so much may a careful one lose


def calibration_photos(train: Sequence[tuple[Path, str]], most: int = PHOTOS) -> list[Path]:
    """Training photos class by class: one of each class in turn, until there are `most`; always the same ones."""
    of_class: dict[str, list[Path]] = {}
    for path, class_name in sorted(train, key=lambda row: digest(str(row[0].name).encode())):
        of_class.setdefault(class_name, []).append(path)
    turns = max(map(len, of_class.values()), default=0)
    return [paths[turn] for turn in range(turns) for _, paths in sorted(of_class.items()) if turn < len(paths)][:most]


def demand_enough(original: Answers) -> None:
    """Raises ProofError if these photos are too few to show that nothing is lost, even if no answer changes."""
    best = compare_predictions(original.predictions, original.predictions).difference_high
    if best >= MOST_LOST:
        raise ProofError(
            f"int8 cannot be accepted on {counted(len(original.predictions.files), 'photo')}: accuracy may be up to "
            f"{100 * best:.2f} points lower (95 %) even if no answer changes, allowed is under {100 * MOST_LOST:g}. "
            "Give more photos: --proof PHOTOS. No export is left"
        )


def calibration_of(train: Sequence[tuple[Path, str]], exported: Exported) -> Calibration:
    """What int8 is calibrated on: readable training photos, as the export's fp32 file takes them.

    Raises:
        UsageError: no training photo can be read.
    """
    readable = exported.readable(calibration_photos(train))
    if not readable:
        raise UsageError("--int8: needs the run's training photos, and none can be read; put them back")
    return Calibration(readable, remembered(exported.load), exported.compute)


def int8_variant(
    format: Format,
    folder: Path,
    about: dict[str, Any],
    calibration: Calibration,
    prove: Callable[[Variant], tuple[dict[str, Any], Proof]],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Quantises, and once more with layers in fp32 if the first try is refused.

    Args:
        format: which can quantise.
        folder: with the format's fp32 variant.
        about: the metadata in the files.
        calibration: training photos.
        prove: describes a variant, and holds it against the trained model.
        tell: gets remarks.

    Returns:
        The variant with its proof, as in `export.json`.

    Raises:
        ProofError: both are refused; the message has the figures.
    """
    assert format.quantize is not None
    tell(f"quantising to int8 with {counted(len(calibration.photos), 'training photo')}, class by class")
    variant = format.quantize(folder, about, calibration)
    described, proof = prove(variant)
    lost = lost_share(_opened(format, folder, variant), calibration)
    more = {"calibrated_on": len(calibration.photos), "lost_on_training_photos": lost, "layers_in_fp32": "none"}
    if not proof.problems:
        return described | more
    tell(f"int8 refused: {'; '.join(proof.problems)}. Trying again with layers in fp32, which takes minutes")
    for name in variant.files:
        (folder / name).unlink()  # not overwritten: a runtime may have it mapped into memory
    variant = format.quantize(folder, about, replace(calibration, most_lost=LEFT * lost))
    described, proof = prove(variant)
    if proof.problems:
        raise ProofError(refusal("the export in int8, also with layers in fp32,", proof))
    lost = lost_share(_opened(format, folder, variant), calibration)
    return described | more | {"lost_on_training_photos": lost, "layers_in_fp32": "the worst"}


def _opened(format: Format, folder: Path, variant: Variant) -> Any:
    return format.run(folder / variant.files[0]).compute
