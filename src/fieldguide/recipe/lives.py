"""The types of a recipe after it was read; each has fewer open fields than the one before.

`resolve.py` leads from one to the next: Recipe, ResolvedRecipe, SizedRecipe, PlannedRecipe, SettledRecipe. A later one
works wherever an earlier one does, and its YAML reads back as a `Recipe`.
"""

from typing import Literal

from fieldguide.recipe.schema import Augmentation, Data, Interpolation, Model, Recipe, Split, Three, Training
from fieldguide.settings import ResolvedPhase, ResolvedRounds


class ResolvedModel(Model):
    """The network, with its head's dropout and what the head takes."""

    features: Literal["last", "stages", "stages_max"]
    head_dropout: float


class ResolvedData(Data):
    """The preprocessing, without the image size."""

    crop_share: float
    interpolation: Interpolation
    mean: Three
    std: Three


class ResolvedSplit(Split):
    """The split with its seed."""

    seed: int


class ResolvedAugmentation(Augmentation):
    """The augmentations with their engine."""

    engine: Literal["reference", "fused"]


class ResolvedTraining(Training):
    """The method, without what a plan or the machine decides."""

    learning_rate: float
    layer_decay: float
    soup: Literal["none", "greedy", "probe"]
    imbalance: Literal["none", "logit_adjustment", "balanced_sampling"]


class ResolvedRecipe(Recipe):
    """A recipe with its defaults filled in; a plan and the machine decide the rest."""

    model: ResolvedModel
    data: ResolvedData
    split: ResolvedSplit
    augmentation: ResolvedAugmentation
    training: ResolvedTraining


class SizedData(ResolvedData):
    """The whole preprocessing."""

    image_size_px: int


class SizedTraining(ResolvedTraining):
    """The method with its batch size."""

    batch_size: int


class SizedRecipe(ResolvedRecipe):
    """A recipe with image size and batch size: enough to prepare the photos."""

    data: SizedData
    training: SizedTraining


class PlannedTraining(SizedTraining):
    """The method with its phases and rounds."""

    plan: None
    label_smoothing: float
    mixup_alpha: float
    cutmix_alpha: float
    phases: tuple[ResolvedPhase, ...]
    rounds: ResolvedRounds


class PlannedRecipe(SizedRecipe):
    """A recipe in which only what the machine decides is open."""

    training: PlannedTraining


class SettledTraining(PlannedTraining):
    """The method as it runs on this machine."""

    micro_batch_size: int
    precision: Literal["bf16", "fp16", "fp32"]
    compile: Literal["never", "always"]


class SettledRecipe(PlannedRecipe):
    """A recipe with nothing left open."""

    training: SettledTraining
