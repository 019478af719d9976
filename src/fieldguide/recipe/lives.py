"""The lives of a recipe after it was read: each has fewer open fields than the one before, and its type says which.

`resolve.py` leads from one to the next: Recipe, ResolvedRecipe, SizedRecipe, PlannedRecipe, SettledRecipe. A later life
can be used wherever an earlier one can, and its YAML reads back as a `Recipe`.
"""

from typing import Literal

from fieldguide.recipe.schema import Augmentation, Data, Interpolation, Model, Recipe, Split, Three, Training
from fieldguide.settings import ResolvedPhase, ResolvedRounds


class ResolvedModel(Model):
    """The network, with its head's dropout."""

    head_dropout: float


class ResolvedData(Data):
    """The preprocessing, but for the image size."""

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
    """The method, but for what a plan or the machine decides."""

    learning_rate: float
    layer_decay: float
    imbalance: Literal["none", "logit_adjustment", "balanced_sampling"]


class ResolvedRecipe(Recipe):
    """A recipe whose defaults are filled in; open is what a plan or the machine decides."""

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
    """A recipe with image size and batch size, which is enough to feed a training."""

    data: SizedData
    training: SizedTraining


class PlannedTraining(SizedTraining):
    """The method with its phases and rounds."""

    plan: None
    mixup_alpha: float
    cutmix_alpha: float
    phases: tuple[ResolvedPhase, ...]
    rounds: ResolvedRounds


class PlannedRecipe(SizedRecipe):
    """A recipe in which only the machine's part is open."""

    training: PlannedTraining


class SettledTraining(PlannedTraining):
    """The method as this machine carries it out."""

    micro_batch_size: int
    precision: Literal["bf16", "fp32"]
    compile: Literal["never", "always"]


class SettledRecipe(PlannedRecipe):
    """A recipe with nothing left open."""

    training: SettledTraining
