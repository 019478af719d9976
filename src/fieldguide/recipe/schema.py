"""The fields of a recipe, with units in their names, limits and defaults.

What null means is in a field's description; `resolve.py` fills it in, and a run's `recipe.yaml` has every value.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fieldguide.recipe import accepted
from fieldguide.settings import BUILT_IN, Flips, Phase, Policy, Rate, Rounds, Section

AUTO = "auto"  # what is decided later: a backbone, a plan, the range of values
HeadKind = Literal["linear", "bottleneck", "mlp"]
Interpolation = Literal["bilinear", "bicubic"]
Alpha = Annotated[float, Field(ge=0, le=100)]
Three = tuple[float, float, float]
Band = Annotated[int, Field(ge=1, le=1_024)]


class Model(Section):
    """The network: a timm backbone with pooled features, and a head."""

    backbone: str = Field(
        default="resnet34.tv_in1k",
        min_length=1,
        description="any timm backbone that gives pooled features; auto: the best on your training photos, within "
        "rules and minutes",
    )
    weights: str = Field(
        default="hub",
        min_length=1,
        description="hub, none, a .safetensors or .pth file, an earlier run; for backbone auto a folder of files, too",
    )
    features: Literal["last", "stages", "stages_max", "auto"] = Field(
        default="last",
        description="what the head takes; last: the backbone's pooled features; stages: those and the means of the two "
        "maps before, at the same cost; stages_max: the maxima of all three as well; auto: stages_max, for a linear "
        "head on pretrained weights where there are such maps",
    )
    head: HeadKind = "linear"
    head_width: int | None = Field(default=None, ge=1, le=65_536, description="null: 1024 for bottleneck, 512 for mlp")
    head_dropout: float | None = Field(default=None, ge=0, lt=1, description="null: 0.3; for linear 0")


class Data(Section):
    """Preprocessing, and what to do with photos that cannot be used.

    For preprocessing, null means what the backbone was pretrained with.
    """

    image_size_px: int | None = Field(default=None, ge=8, le=2_048, description="side of the network's input")
    crop_share: float | None = Field(
        default=None, gt=0, le=1, description="shorter side becomes round(image_size_px / crop_share)"
    )
    interpolation: Interpolation | None = None
    mean: Three | None = None
    std: tuple[Rate, Rate, Rate] | None = None
    test_size_px: Annotated[int | Literal["auto"] | None, BeforeValidator(accepted.size_or_auto)] = Field(
        default=None,
        description="side of the input after the training; auto: the best on validation, at most 1.5 times the "
        "training's; null: image_size_px",
    )
    test_crop_share: Annotated[float | Literal["auto"] | None, BeforeValidator(accepted.share_or_auto)] = Field(
        default=None,
        description="crop_share after the training; auto: the best on validation of crop_share, 0.875, 0.95 and 1; "
        "null: crop_share",
    )
    test_flips: Flips = Field(
        default="none",
        description="after the training; horizontal: the mean over a photo and its mirror image, in twice the time",
    )
    cache_side_px: int | None = Field(
        default=None,
        ge=0,
        le=8_192,
        description="fused only: photos are cached with at most this shorter side; "
        "null: 2 x image_size_px; 0: no cache, photos in their own size",
    )
    unreadable: Literal["refuse", "exclude"] = "refuse"
    class_folder: Literal["first", "last", "path"] = Field(
        default="first", description="which of nested folders is the class; path: all of them"
    )
    missing: Literal["refuse", "exclude"] = Field(
        default="refuse", description="photos that a table names and the folder does not have"
    )
    unlabelled: Literal["exclude", "refuse"] = Field(
        default="exclude", description="photos in the folder that the table gives no label"
    )
    two_labels: Literal["refuse", "exclude"] = Field(
        default="refuse", description="photos that the table gives two labels"
    )
    leaks: Literal["refuse", "drop", "allow"] = Field(
        default="refuse",
        description="photos of val or test that are also in train (drop: leaves the training photos out) or that an "
        "earlier run in model.weights was trained on (drop: leaves these out of val and test)",
    )
    max_megapixels: float = Field(default=200, gt=0, le=2_000, description="a larger photo is unreadable")
    value_range: Annotated[Any, BeforeValidator(accepted.value_range)] = Field(
        default=AUTO,
        description="black and white of photos with more than 8 bits; auto: by the bit depth that all training photos "
        "use; [low, high]; or {percentiles: [1, 99]} of their values",
    )
    bands: tuple[Band, Band, Band] | None = Field(
        default=None,
        description="red, green and blue of a TIFF with more bands, counted from 1; null: it is unreadable",
    )
    alpha: Literal["auto", "white", "ignore"] = Field(
        default="auto",
        description="a TIFF's alpha band: laid on white, or left out; auto: left out if all training photos are TIFFs "
        "that have one and it holds more than transparent and opaque",
    )
    fit: Literal["crop", "pad", "squash"] = Field(
        default="crop",
        description="a photo that is not square: its centre is cut out, gray bars make it square, or it is squeezed",
    )


class Split(Section):
    """How validation photos are chosen if there is no folder for them."""

    validation_share: float | None = Field(default=None, gt=0, lt=1, description="null: 0.15; with folds none")
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="null: training.seed")
    group_pattern: str | None = Field(
        default=None, description="photos whose names share the part (?P<group>...) of this pattern stay in one part"
    )
    group_by: Literal["first_folder"] | None = Field(
        default=None, description="first_folder: photos of one first folder, such as a site, stay in one part"
    )
    folds: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description="cross-validation: number of models, each photo held out once; null: none",
    )


class Augmentation(Section):
    """The augmentations that phases name, and how they are computed."""

    engine: Literal["reference", "fused"] | None = Field(
        default=None, description="null: fused for execution fast, reference (torchvision's own) for exact"
    )
    policies: dict[str, Policy] = Field(
        default={}, description="your own, beside standard, strong, mild, gentle and none, or in their place"
    )

    def policy(self, name: str) -> Policy | None:
        """The augmentation of that name, or None."""
        return self.known().get(name)

    def known(self) -> dict[str, Policy]:
        """All augmentations that a phase can name."""
        return {**BUILT_IN, **self.policies}


class Plateau(Section):
    """torch's ReduceLROnPlateau."""

    metric: Literal["validation_accuracy", "validation_loss"] = "validation_accuracy"
    factor: float = Field(default=0.1, gt=0, lt=1)
    patience_epochs: int = Field(default=3, ge=0)


class Training(Section):
    """The method: optimiser, schedule, phases, rounds, and which epoch's model is kept."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    batch_size: Annotated[int | None, BeforeValidator(accepted.auto_is_null)] = Field(
        default=64, ge=2, le=65_536, description="photos a step; null or auto: 64, or what a plan chooses"
    )
    micro_batch_size: Annotated[int | None, BeforeValidator(accepted.auto_is_null)] = Field(
        default=None, ge=2, le=65_536, description="photos at once; null or auto: what memory holds, at most the batch"
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        default="auto", description="auto: bf16 where native, else fp16 (a T4); else, and with execution exact, fp32"
    )
    compile: Literal["auto", "never", "always"] = Field(
        default="auto", description="torch.compile; auto: on a GPU, where it is measured to save time"
    )
    max_epochs: int | None = Field(default=None, ge=1, description="a limit over all phases and rounds; null: none")
    plan: Literal["auto"] | None = Field(
        default=None, description="auto: phases and rounds are planned on this machine; null: as they are written"
    )
    max_minutes: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="limit for the whole command; a plan fits into it, and training ends there; null: none",
    )
    more_epochs: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="with --resume, after a finished training: this many in a further stage",
    )
    checkpoint: Literal["epoch", "minutes"] = Field(default="epoch", description="minutes: not after each epoch")
    checkpoint_every_minutes: float = Field(
        default=10, ge=0, le=100_000, description="and at each stage's end; 0: after each step"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Rate | None = Field(
        default=None, description="null: 0.001; with plan auto from pretrained weights 0.0003"
    )
    momentum: float | None = Field(default=None, ge=0, lt=1, description="sgd only; null: 0.9")
    weight_decay: float = Field(default=0.0, ge=0, le=10)
    weight_decay_on: Literal["all", "matrices"] = Field(
        default="all", description="matrices: not on biases, nor on scale and shift of normalisation"
    )
    layer_decay: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="each stage of the backbone learns at this times the rate of the one after; "
        "null: 1; with plan auto from pretrained weights 0.6",
    )
    head_learning_rate_factor: float = Field(
        default=1.0, gt=0, le=10_000, description="the head learns at this times the rate of the last stage"
    )
    label_smoothing: float | None = Field(default=None, ge=0, lt=1, description="null: 0, or what a plan chooses")
    mixup_alpha: Alpha | None = Field(
        default=None,
        description="MixUp: each photo's share is drawn from Beta(alpha, alpha); 0: off; null: off, or if both are "
        "null what a plan chooses",
    )
    cutmix_alpha: Alpha | None = Field(
        default=None, description="CutMix: likewise; beside MixUp, half of the mixed batches are of each"
    )
    mix_probability: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="share of batches that are mixed; null: 1 if an alpha is set, 0.5 if a plan mixes, else none",
    )
    gradient_clip_norm: Rate | None = None
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    plateau: Plateau | None = Field(default=None, description="plateau only; null: its defaults")
    warmup_epochs: float | None = Field(default=None, ge=0, description="cosine only; null: 0")
    ema_decay: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="exponential moving average of the weights and of batch normalisation's statistics, at each step "
        "decay x average + (1 - decay) x weights; it is validated and kept in place of the weights; null: none",
    )
    soup: Literal["none", "greedy", "probe"] | None = Field(
        default=None,
        description="mean of weights, if better; greedy: best epochs; probe: best and probe; null: the plan's, or none",
    )
    soup_candidates: int | None = Field(
        default=None, ge=2, le=20, description="greedy only: how many of the best epochs are kept for it; null: 5"
    )
    best_by: Literal["validation_loss", "validation_accuracy"] = "validation_loss"
    metric: Literal["accuracy", "macro_accuracy"] = Field(
        default="accuracy",
        description="which one validation_accuracy is, in best_by, in plateau and on the screen; macro: the mean of "
        "the classes' recalls",
    )
    imbalance: Literal["none", "logit_adjustment", "balanced_sampling"] | None = Field(
        default=None,
        description="logit_adjustment: rare classes weigh as much in the loss; balanced_sampling: they are drawn as "
        "often; null: logit_adjustment for metric macro_accuracy, else none",
    )
    validation_photos: int | None = Field(
        default=None,
        ge=1,
        description="so many choose the epoch, stratified by class; all are judged at the end; null: all, or a plan's",
    )
    phases: tuple[Phase, ...] = Field(default=(Phase(), Phase(augmentation="strong")), min_length=1)
    rounds: Annotated[Rounds, BeforeValidator(accepted.rounds_from_number)] = Rounds()


class Rules(Section):
    """What a competition or an employer allows; checked before training, recorded in the result."""

    max_parameters: int | None = Field(default=None, ge=1, description="fewer than this many; null: any")
    backbones: tuple[str, ...] | None = Field(
        default=None, description="patterns of allowed names, such as resnet*; null: any"
    )
    pretraining: Literal["any", "imagenet-1k", "none"] = "any"
    external_data: Literal["none", "any"] = "any"
    licence: Literal["any", "commercial"] = Field(
        default="any", description="of pretrained weights; commercial: refused if their licence forbids commercial use"
    )


class Recipe(Section):
    """Everything that decides a training."""

    execution: Literal["fast", "exact"] = Field(
        default="fast",
        description="exact: torchvision's transforms photo by photo, fp32; "
        "fast: bf16 and channels-last where the machine multiplies them natively",
    )
    model: Model = Model()
    data: Data = Data()
    split: Split = Split()
    augmentation: Augmentation = Augmentation()
    training: Training = Training()
    rules: Rules = Rules()
