"""Fields of a recipe that contradict each other, or that would be ignored beside another."""

from fieldguide.recipe.contradictions_of_phases import Contradiction, of_phases
from fieldguide.recipe.resolve import BATCH_SIZE, largest_size_px
from fieldguide.recipe.schema import AUTO, Recipe
from fieldguide.settings import Policy

MOST_RESIZED_PX = 8_192  # the limit of a bundle's preprocessing


def contradictions(recipe: Recipe) -> list[Contradiction]:
    """Every pair of fields that cannot both hold."""
    return [
        *of_phases(recipe),
        *_against_exact(recipe),
        *_ignored(recipe),
        *_ranges(recipe),
        *_of_mixing(recipe),
        *_of_speed(recipe),
        *_of_soup(recipe),
        *_of_backbone(recipe),
        *_against_rules(recipe),
    ]


def _against_exact(recipe: Recipe) -> list[Contradiction]:
    """`execution: exact` takes torchvision's own transforms, and nothing that only the fused ones use."""
    engine, side, exact = recipe.augmentation.engine, recipe.data.cache_side_px, recipe.execution == "exact"
    found = []
    if engine == "fused" and exact:
        found.append(
            Contradiction(
                ("augmentation.engine", "execution"),
                "augmentation.engine is fused, but execution exact needs torchvision's own transforms; set execution "
                "to fast or augmentation.engine to reference",
            )
        )
    elif side and (engine == "reference" or exact):
        other = "augmentation.engine" if engine == "reference" else "execution"
        value = "reference" if engine == "reference" else "exact"
        found.append(
            Contradiction(
                ("data.cache_side_px", other),
                f"data.cache_side_px would be ignored, because {other} is {value} and only fused augmentations read "
                "the cache; set data.cache_side_px to null, or execution to fast and augmentation.engine to fused",
            )
        )
    return found


def _ignored(recipe: Recipe) -> list[Contradiction]:
    model, training, split = recipe.model, recipe.training, recipe.split
    cases = [
        (
            split.validation_share is not None,
            "split.validation_share",
            split.folds is not None,
            "split.folds",
            split.folds,
        ),
        (model.head_width is not None, "model.head_width", model.head == "linear", "model.head", "linear"),
        (
            training.momentum is not None,
            "training.momentum",
            training.optimizer != "sgd",
            "training.optimizer",
            training.optimizer,
        ),
        (
            training.plateau is not None,
            "training.plateau",
            training.schedule != "plateau",
            "training.schedule",
            training.schedule,
        ),
        (
            training.warmup_epochs is not None,
            "training.warmup_epochs",
            training.schedule != "cosine",
            "training.schedule",
            training.schedule,
        ),
        (
            training.soup_candidates is not None,
            "training.soup_candidates",
            training.soup == "none",
            "training.soup",
            training.soup,
        ),
    ]
    return [
        Contradiction(
            (field, other),
            f"{field} would be ignored, because {other} is {value}; set {field} to null or change {other}",
        )
        for is_set, field, is_moot, other, value in cases
        if is_set and is_moot
    ]


def _ranges(recipe: Recipe) -> list[Contradiction]:
    found = []
    for field, policy in recipe.augmentation.policies.items():
        scale, ratio = policy.crop_scale, policy.crop_ratio
        for name, pair in (("crop_scale", scale), ("crop_ratio", ratio)):
            if pair is not None and pair[0] > pair[1]:
                where = f"augmentation.policies.{field}.{name}"
                found.append(Contradiction((where,), f"{where}: {list(pair)} must be [smallest, largest]; swap them"))
        if scale is None and ratio != Policy().crop_ratio:
            where = f"augmentation.policies.{field}"
            found.append(
                Contradiction(
                    (f"{where}.crop_ratio", f"{where}.crop_scale"),
                    f"{where}.crop_ratio would be ignored, because {where}.crop_scale is null; "
                    "leave it out or set crop_scale",
                )
            )
    size, share = recipe.data.image_size_px, recipe.data.crop_share
    side, (field, largest) = recipe.data.cache_side_px, largest_size_px(recipe)
    if side and side < largest:
        found.append(
            Contradiction(
                ("data.cache_side_px", field),
                f"data.cache_side_px: {side} is below {field} {largest}, so photos would be shrunk and then "
                "enlarged; choose a larger one, or 0 for no cache",
            )
        )
    if size is not None and share is not None and round(size / share) > MOST_RESIZED_PX:
        found.append(_too_large("data.crop_share", share, "data.image_size_px", size))
    return [*found, *_ranges_at_test_time(recipe)]


def _ranges_at_test_time(recipe: Recipe) -> list[Contradiction]:
    """A test size or crop share that is a number; `auto` stays within the limit by itself."""
    data = recipe.data
    sizes = {"data.test_size_px": data.test_size_px, "data.image_size_px": data.image_size_px}
    shares = {"data.test_crop_share": data.test_crop_share, "data.crop_share": data.crop_share}
    size_field, size = next(((name, px) for name, px in sizes.items() if isinstance(px, int)), ("", 0))
    share_field, share = next(((name, part) for name, part in shares.items() if isinstance(part, float)), ("", 1.0))
    is_of_training = (size_field, share_field) == ("data.image_size_px", "data.crop_share")
    if is_of_training or round(size / share) <= MOST_RESIZED_PX:
        return []
    return [_too_large(share_field, share, size_field, size)]


def _too_large(share_field: str, share: float, size_field: str, size: int) -> Contradiction:
    return Contradiction(
        (share_field, size_field),
        f"{share_field}: {share:g} with {size_field} {size} resizes the shorter side to {round(size / share):,} px, "
        f"more than the {MOST_RESIZED_PX:,} px allowed; choose a larger share",
    )


def _of_mixing(recipe: Recipe) -> list[Contradiction]:
    training, alphas = recipe.training, ("training.mixup_alpha", "training.cutmix_alpha")
    if training.mix_probability is None or training.mixup_alpha or training.cutmix_alpha:
        return []
    is_planned = training.plan == "auto" and training.mixup_alpha is None and training.cutmix_alpha is None
    why = "a plan chooses its own" if is_planned else f"{alphas[0]} and {alphas[1]} are 0"
    return [
        Contradiction(
            ("training.mix_probability", *alphas),
            f"training.mix_probability would be ignored, because {why}; set training.mix_probability to null, or set "
            f"{alphas[0]} or {alphas[1]}",
        )
    ]


def _of_speed(recipe: Recipe) -> list[Contradiction]:
    training, found = recipe.training, []
    if recipe.execution == "exact" and training.precision == "bf16":
        found.append(
            Contradiction(
                ("training.precision", "execution"),
                "training.precision is bf16, but execution exact computes in fp32; choose fp32, or execution fast",
            )
        )
    batch, micro = training.batch_size or BATCH_SIZE, training.micro_batch_size
    if micro is not None and micro > batch:
        found.append(
            Contradiction(
                ("training.micro_batch_size", "training.batch_size"),
                f"training.micro_batch_size is {micro}, more than training.batch_size {batch}; choose {batch} or fewer",
            )
        )
    steps = [(place, phase.batch_norm) for place, phase in enumerate(training.phases) if phase.method == "gradient"]
    if recipe.model.weights == "none" and steps and steps[0][1] in ("frozen", "folded"):  # a probe needs none
        field = f"training.phases.{steps[0][0]}.batch_norm"
        found.append(
            Contradiction(
                (field, "model.weights"),
                f"{field} is {steps[0][1]}, which keeps the pretrained statistics, but model.weights is none; "
                "choose train, or other weights",
            )
        )
    return found


def _of_soup(recipe: Recipe) -> list[Contradiction]:
    if recipe.training.soup == "greedy" and recipe.training.max_epochs == 1:
        return [
            Contradiction(
                ("training.soup", "training.max_epochs"),
                "training.soup: greedy averages several epochs, but training.max_epochs is 1; set training.soup to "
                "none or allow more epochs",
            )
        ]
    return []


def _of_backbone(recipe: Recipe) -> list[Contradiction]:
    weights = recipe.model.weights
    if recipe.model.backbone != AUTO or weights in ("hub", "none"):
        return []
    return [
        Contradiction(
            ("model.backbone", "model.weights"),
            f"model.backbone is auto, but model.weights {weights} fits only one backbone; name it in model.backbone, "
            "or set model.weights to hub or none",
        )
    ]


def _against_rules(recipe: Recipe) -> list[Contradiction]:
    if recipe.rules.pretraining == "none" and recipe.model.weights != "none":
        return [
            Contradiction(
                ("rules.pretraining", "model.weights"),
                f"model.weights is {recipe.model.weights}, but rules.pretraining is none; "
                "set model.weights to none or change the rule",
            )
        ]
    return []
