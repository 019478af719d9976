"""An augmentation, a phase and the rounds, which recipe, data and training share; this file imports no room."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

Trainable = Literal["all", "head", "last_stage", "last_two_stages"]
BatchNorm = Literal["train", "frozen", "folded"]
Flips = Literal["none", "horizontal"]  # at test time
Method = Literal["gradient", "probe"]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=100)]
Epochs = Annotated[float, Field(ge=0, le=100_000)]  # may be a part of one
Degrees = Annotated[float, Field(ge=0, le=180)]


class Section(BaseModel):
    """A part of a recipe: unknown fields are mistakes, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any) -> Any:
        """pydantic reads `true` as 1, but no field of a recipe is true or false."""
        if isinstance(value, bool) or (isinstance(value, list) and any(isinstance(item, bool) for item in value)):
            raise PydanticCustomError("truth", "cannot be true or false")
        return value


class Policy(Section):
    """One augmentation, in the order of its fields; torchvision's transforms of the same names."""

    crop_scale: tuple[Share, Share] | None = Field(
        default=(0.08, 1.0),
        description="RandomResizedCrop's share of the area; null: resize and centre crop as in validation",
    )
    crop_ratio: tuple[Rate, Rate] = (3 / 4, 4 / 3)
    horizontal_flip: Share = 0.5
    vertical_flip: Share = 0.0
    rotation_degrees: Degrees = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: float = Field(default=0.0, ge=0, le=0.5)
    translation_share: Share = 0.0
    trivial_augment: Literal["none", "wide"] = Field(
        default="none", description="wide: TrivialAugmentWide, one of 14 operations at random strength"
    )
    erasing: Share = Field(
        default=0.0, description="probability of RandomErasing: 2 to 33 % of the area become the mean colour"
    )


STANDARD = Policy(rotation_degrees=15, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1)
MILD = Policy(crop_scale=(0.25, 1.0), brightness=0.1, contrast=0.1, saturation=0.1)
STRONG = Policy(
    vertical_flip=0.2, rotation_degrees=30, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, translation_share=0.1
)
GENTLE = Policy(crop_scale=(0.5, 1.0), horizontal_flip=0, brightness=0.1, contrast=0.1, saturation=0.1)
NONE = Policy(crop_scale=None, horizontal_flip=0)
ITSELF = "none"  # the name of the augmentation that leaves a photo as it is
BUILT_IN = {"standard": STANDARD, "strong": STRONG, "mild": MILD, "gentle": GENTLE, ITSELF: NONE}


class Phase(Section):
    """Epochs with one augmentation and one set of trainable parameters."""

    name: str | None = Field(default=None, min_length=1, description="null: the augmentation's name; of a probe: probe")
    method: Method = Field(
        default="gradient",
        description="gradient: steps of the optimiser; "
        "probe: the head by logistic regression on features of the frozen backbone",
    )
    views: int | None = Field(
        default=None,
        ge=1,
        le=100,
        description="probe only: of each photo, to take features of; the first of several is not augmented; null: 1",
    )
    augmentation: str = "standard"
    max_epochs: int = Field(default=15, ge=1, le=100_000, description="a probe has one")
    image_size_px: int | None = Field(
        default=None, ge=8, le=2_048, description="side of the images trained on; null: data.image_size_px"
    )
    learning_rate: Rate | None = Field(default=None, description="null: training.learning_rate")
    trainable: Trainable = "all"
    batch_norm: BatchNorm | None = Field(
        default=None,
        description="of the backbone; train: statistics of each batch; frozen: the pretrained ones; "
        "folded: those, merged into the convolutions, for small rates; null: train, for a probe frozen",
    )
    min_improvement: float = Field(default=0.001, ge=0, description="of the validation loss")
    patience_epochs: int = Field(default=3, ge=1, description="converged after this many epochs without improvement")
    replanned: tuple[tuple[Epochs, Epochs], ...] = Field(
        default=(),
        description="written where time changed the plan: after so many epochs of the phase, it has so many in all",
    )

    @property
    def is_left_out(self) -> bool:
        """Whether time was up before it could begin."""
        return bool(self.replanned) and self.replanned[-1][1] == 0

    @field_validator("replanned")
    @classmethod
    def _in_order(cls, replanned: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        """A phase cannot end before what is done of it."""
        begins = [after for after, _ in replanned]
        if begins != sorted(begins) or any(epochs < after for after, epochs in replanned):
            raise PydanticCustomError("replanned", "must be pairs [after, in all], in order, with after <= in all")
        return replanned


class ResolvedPhase(Phase):
    """A phase with nothing left open."""

    name: str
    image_size_px: int
    learning_rate: float
    batch_norm: BatchNorm


class Rounds(Section):
    """Training again from the best model at a lower rate, while validation improves."""

    max_rounds: int = Field(default=3, ge=0, le=1_000)
    max_epochs: int = Field(default=10, ge=1, le=100_000, description="of one round")
    learning_rate_factor: float = Field(default=0.5, gt=0, le=1)
    augmentation: str | None = Field(default=None, description="null: the last phase's")
    min_improvement: float = Field(default=0.001, ge=0)
    patience_epochs: int = Field(default=3, ge=1)


class ResolvedRounds(Rounds):
    """Rounds with nothing left open."""

    augmentation: str
