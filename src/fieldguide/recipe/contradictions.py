"""Fields of a recipe that contradict each other, or that would be ignored beside another."""

from collections.abc import Iterator

from fieldguide.recipe.contradictions_of_phases import Contradiction, of_phases
from fieldguide.recipe.resolve import BATCH_SIZE, largest_size_px
from fieldguide.recipe.schema import Recipe
from fieldguide.settings import Policy

MOST_RESIZED_PX = 8_192  # the limit of a bundle's preprocessing


def contradictions(recipe: Recipe) -> list[Contradiction]:
    """Every pair of fields that cannot both hold."""
    checks = (of_phases, _against_exact, _ignored, _ranges, _of_mixing, _of_speed, _of_soup_and_model)
    return [found for check in checks for found in check(recipe)]


def _against_exact(recipe: Recipe) -> Iterator[Contradiction]:
    """`execution: exact` takes torchvision's own transforms, and nothing that only the fused ones use."""
    engine, side, exact = recipe.augmentation.engine, recipe.data.cache_side_px, recipe.execution == "exact"
    if engine == "fused" and exact:
        yield Contradiction(
            ("augmentation.engine", "execution"),
            "augmentation.engine is fused, but execution exact needs torchvision's own transforms; set execution to "
            "fast or augmentation.engine to reference",
        )
    elif side and (engine == "reference" or exact):
        other, value = ("augmentation.engine", engine) if engine == "reference" else ("execution", "exact")
        yield Contradiction(
            ("data.cache_side_px", other),
            f"data.cache_side_px would be ignored, because {other} is {value} and only fused augmentations read the "
            "cache; set data.cache_side_px to null, or execution to fast and augmentation.engine to fused",
        )


def _ignored(recipe: Recipe) -> Iterator[Contradiction]:
    model, training, split = recipe.model, recipe.training, recipe.split
    optimizer, schedule, soup = training.optimizer, training.schedule, training.soup or "none"
    cases = [  # field, its value, the field that makes it moot, that one's value, whether it does
        ("split.validation_share", split.validation_share, "split.folds", split.folds, split.folds is not None),
        ("model.head_width", model.head_width, "model.head", "linear", model.head == "linear"),
        ("training.momentum", training.momentum, "training.optimizer", optimizer, optimizer != "sgd"),
        ("training.plateau", training.plateau, "training.schedule", schedule, schedule != "plateau"),
        ("training.warmup_epochs", training.warmup_epochs, "training.schedule", schedule, schedule != "cosine"),
        ("training.soup_candidates", training.soup_candidates, "training.soup", soup, soup != "greedy"),
    ]
    for field, value, other, why, is_moot in cases:
        if value is not None and is_moot:
            yield Contradiction(
                (field, other),
                f"{field} would be ignored, because {other} is {why}; set {field} to null or change {other}",
            )


def _ranges(recipe: Recipe) -> Iterator[Contradiction]:
    for name, policy in recipe.augmentation.policies.items():
        where = f"augmentation.policies.{name}"
        for field, pair in (("crop_scale", policy.crop_scale), ("crop_ratio", policy.crop_ratio)):
            if pair is not None and pair[0] > pair[1]:
                message = f"{where}.{field}: {list(pair)} must be [smallest, largest]; swap them"
                yield Contradiction((f"{where}.{field}",), message)
        if policy.crop_scale is None and policy.crop_ratio != Policy().crop_ratio:
            yield Contradiction(
                (f"{where}.crop_ratio", f"{where}.crop_scale"),
                f"{where}.crop_ratio would be ignored, because {where}.crop_scale is null; leave it out or set "
                "crop_scale",
            )
    data, (field, largest) = recipe.data, largest_size_px(recipe)
    if data.cache_side_px and data.cache_side_px < largest:
        yield Contradiction(
            ("data.cache_side_px", field),
            f"data.cache_side_px: {data.cache_side_px} is below {field} {largest}, so photos would be shrunk and then "
            "enlarged; choose a larger one, or 0 for no cache",
        )
    size, share = data.image_size_px, data.crop_share
    if size is not None and share is not None and round(size / share) > MOST_RESIZED_PX:
        yield _too_large("data.crop_share", share, "data.image_size_px", size)
    yield from _ranges_at_test_time(recipe)


def _ranges_at_test_time(recipe: Recipe) -> Iterator[Contradiction]:
    """A test size or crop share that is a number; `auto` stays within the limit by itself."""
    data = recipe.data
    sizes = {"data.test_size_px": data.test_size_px, "data.image_size_px": data.image_size_px}
    shares = {"data.test_crop_share": data.test_crop_share, "data.crop_share": data.crop_share}
    size_field, size = next(((name, px) for name, px in sizes.items() if isinstance(px, int)), ("", 0))
    share_field, share = next(((name, part) for name, part in shares.items() if isinstance(part, float)), ("", 1.0))
    is_of_training = (size_field, share_field) == ("data.image_size_px", "data.crop_share")
    if not is_of_training and round(size / share) > MOST_RESIZED_PX:
        yield _too_large(share_field, share, size_field, size)


def _too_large(share_field: str, share: float, size_field: str, size: int) -> Contradiction:
    return Contradiction(
        (share_field, size_field),
        f"{share_field}: {share:g} with {size_field} {size} resizes the shorter side to {round(size / share):,} px, "
        f"more than the {MOST_RESIZED_PX:,} px allowed; choose a larger share",
    )


def _of_mixing(recipe: Recipe) -> Iterator[Contradiction]:
    training, alphas = recipe.training, ("training.mixup_alpha", "training.cutmix_alpha")
    if training.mix_probability is None or training.mixup_alpha or training.cutmix_alpha:
        return
    is_planned = training.plan == "auto" and training.mixup_alpha is None and training.cutmix_alpha is None
    why = "a plan chooses its own" if is_planned else f"{alphas[0]} and {alphas[1]} are 0"
    yield Contradiction(
        ("training.mix_probability", *alphas),
        f"training.mix_probability would be ignored, because {why}; set training.mix_probability to null, or set "
        f"{alphas[0]} or {alphas[1]}",
    )


def _of_speed(recipe: Recipe) -> Iterator[Contradiction]:
    training = recipe.training
    if recipe.execution == "exact" and training.precision in ("bf16", "fp16"):
        yield Contradiction(
            ("training.precision", "execution"),
            f"training.precision is {training.precision}, but execution exact computes in fp32; choose fp32, or "
            "execution fast",
        )
    batch, micro = training.batch_size or BATCH_SIZE, training.micro_batch_size
    if micro is not None and micro > batch:
        yield Contradiction(
            ("training.micro_batch_size", "training.batch_size"),
            f"training.micro_batch_size is {micro}, more than training.batch_size {batch}; choose {batch} or fewer",
        )
    steps = [(place, phase.batch_norm) for place, phase in enumerate(training.phases) if phase.method == "gradient"]
    if recipe.model.weights == "none" and steps and steps[0][1] in ("frozen", "folded"):  # a probe needs none
        field = f"training.phases.{steps[0][0]}.batch_norm"
        yield Contradiction(
            (field, "model.weights"),
            f"{field} is {steps[0][1]}, which keeps the pretrained statistics, but model.weights is none; choose "
            "train, or other weights",
        )


def _of_soup_and_model(recipe: Recipe) -> Iterator[Contradiction]:
    training = recipe.training
    if training.soup == "greedy" and training.max_epochs == 1:
        yield Contradiction(
            ("training.soup", "training.max_epochs"),
            "training.soup: greedy averages several epochs, but training.max_epochs is 1; set training.soup to none "
            "or allow more epochs",
        )
    is_planned = training.plan == "auto"  # where no probe is planned, the plan takes no mean
    if training.soup == "probe" and not is_planned and training.phases[0].method != "probe":
        yield Contradiction(
            ("training.soup", "training.phases.0.method"),
            "training.soup: probe averages the best epoch with a probe, but the first phase is none; set training.soup "
            "to none, or training.phases.0.method to probe",
        )
    weights = recipe.model.weights
    if recipe.rules.pretraining == "none" and weights != "none":
        yield Contradiction(
            ("rules.pretraining", "model.weights"),
            f"model.weights is {weights}, but rules.pretraining is none; set model.weights to none or change the rule",
        )
