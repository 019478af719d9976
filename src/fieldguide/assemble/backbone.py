"""`model.backbone: auto`: the most accurate backbone of the table within rules and minutes. Measures nothing."""

import fnmatch
import math
from dataclasses import dataclass

from fieldguide.errors import UsageError, counted
from fieldguide.model.architecture import Architecture
from fieldguide.model.classifier import count_parameters, make_on_meta
from fieldguide.model.pretrained import licence, pretrained_on
from fieldguide.model.table import KnownBackbone, known_backbones
from fieldguide.recipe.resolve import HEAD_WIDTH
from fieldguide.recipe.rules import allows_commercial_use
from fieldguide.recipe.schema import AUTO, Recipe

# A step is a forward pass and a backward one of twice its work (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
FORWARDS_A_STEP = 3
# Without minutes: the cost of a ResNet-101 at 224 px, so that nobody gets a ResNet-RS-420 unasked. A choice.
MOST_GMACS_WITHOUT_MINUTES = 8.0
MOST_GMACS_FROM_SCRATCH = 3.7  # the cost of a ResNet-34 at 224 px; a choice, not measured


@dataclass(frozen=True)
class Budget:
    """How much a training may cost."""

    images: int  # training photos
    minutes: float | None = None  # for all passes over them; None: `MOST_GMACS_WITHOUT_MINUTES` a photo
    macs_per_second: float | None = None  # of this machine in a training step, forward and backward together
    fewest_passes: float = 3.0  # over the training set, that must fit into the minutes

    def passes(self, gmacs: float) -> float | None:
        """How many passes fit at a forward pass's cost a photo; None without minutes."""
        if self.minutes is None:
            return None
        assert self.macs_per_second is not None, "minutes need the machine's speed"
        return self.minutes * 60 * self.macs_per_second / (FORWARDS_A_STEP * gmacs * 1e9 * max(1, self.images))

    def allows(self, gmacs: float) -> bool:
        """Whether a backbone of that cost fits."""
        passes = self.passes(gmacs)
        return gmacs <= MOST_GMACS_WITHOUT_MINUTES if passes is None else passes >= self.fewest_passes


def resolve_backbone(recipe: Recipe, num_classes: int, budget: Budget) -> tuple[Recipe, str]:
    """Replaces `model.backbone: auto` by a name.

    Published ImageNet accuracy is the guide: over many data sets it goes with accuracy after fine-tuning (Kornblith et
    al. 2019, arXiv 1805.08974), though not on each. Each candidate's cost is counted at
    `data.image_size_px`, or where that is null at the size of its own pretraining.

    Returns:
        The recipe with its backbone, and a sentence that says which and why; empty if nothing was chosen. If no
        backbone fits the minutes, it is the cheapest allowed one, and the sentence says so.

    Raises:
        UsageError: the rules allow none, or the weights are a file or a run, which fit only one backbone.
    """
    if recipe.model.backbone != AUTO:
        return recipe, ""
    if recipe.model.weights not in ("hub", "none"):
        raise UsageError(f"model.backbone: auto cannot know which backbone {recipe.model.weights} has; name it")
    allowed = [known for known in known_backbones() if is_allowed(recipe, known.name, known.parameters)]
    most = math.inf if recipe.model.weights == "hub" else MOST_GMACS_FROM_SCRATCH
    costs = {known: _gmacs(recipe, known) for known in allowed}
    affordable = [known for known, gmacs in costs.items() if gmacs <= most and budget.allows(gmacs)]
    by_accuracy = sorted(affordable, key=lambda known: (-known.top1_percent, _gmacs(recipe, known)))
    by_cost = sorted(allowed, key=lambda known: (_gmacs(recipe, known), -known.top1_percent))
    chosen = next((known for known in [*by_accuracy, *by_cost] if has_room(recipe, known.name, num_classes)), None)
    if chosen is None:
        raise UsageError(
            f"model.backbone: auto knows {counted(len(known_backbones()), 'ResNet')}, but the rules allow none of them "
            f"({_rules_in_words(recipe)}); name a backbone, or change the rules"
        )
    made = recipe.model_copy(update={"model": recipe.model.model_copy(update={"backbone": chosen.name})})
    return made, _sentence(recipe, chosen, budget, len(affordable))


def is_allowed(recipe: Recipe, name: str, parameters: int, *, is_known: bool = True) -> bool:
    """Whether the rules allow a backbone, as far as its table entry says; `is_known`: the weights are the published."""
    rules = recipe.rules
    if rules.max_parameters is not None and parameters >= rules.max_parameters:
        return False
    if rules.backbones is not None and not any(fnmatch.fnmatchcase(name, rule) for rule in rules.backbones):
        return False
    if recipe.model.weights == "none" or not is_known:
        return True
    if rules.licence == "commercial" and allows_commercial_use(licence(name)) is not True:
        return False
    return rules.pretraining == "any" or (rules.pretraining == "imagenet-1k" and pretrained_on(name) == "imagenet-1k")


def has_room(recipe: Recipe, name: str, num_classes: int) -> bool:
    """Whether it is within the rules with its head."""
    model, most = recipe.model, recipe.rules.max_parameters
    if most is None:
        return True
    width = model.head_width or HEAD_WIDTH[model.head]
    made = make_on_meta(Architecture(name, model.head, width, 0.0, num_classes))
    return count_parameters(made)["total"] < most


def _gmacs(recipe: Recipe, known: KnownBackbone) -> float:
    return known.gmacs_at(recipe.data.image_size_px or known.image_size_px)


def _sentence(recipe: Recipe, chosen: KnownBackbone, budget: Budget, affordable: int) -> str:
    gmacs, size = _gmacs(recipe, chosen), recipe.data.image_size_px or chosen.image_size_px
    what = (
        f"model.backbone: auto is {chosen.name} ({chosen.top1_percent:.1f} % published on ImageNet, "
        f"{chosen.parameters / 1e6:.1f} M parameters, {gmacs:.1f} GMACs a photo at {size} px)"
    )
    passes = budget.passes(gmacs)
    if not budget.allows(gmacs):
        bound = (
            f"{MOST_GMACS_WITHOUT_MINUTES:g} GMACs a photo"
            if passes is None
            else f"{budget.minutes:g} min: {passes:.1f} passes over the photos fit, fewer than the "
            f"{budget.fewest_passes:g} it should have"
        )
        return f"{what}, the cheapest that the rules allow, but too slow for {bound}"
    most = MOST_GMACS_WITHOUT_MINUTES if recipe.model.weights == "hub" else MOST_GMACS_FROM_SCRATCH
    bound = (
        f"at most {most:g} GMACs a photo, as no minutes were given"
        if passes is None
        else f"{budget.minutes:g} min (about {passes:.0f} passes over the photos)"
    )
    return f"{what}, the most accurate of {counted(affordable, 'ResNet')} within rules and {bound}"


def _rules_in_words(recipe: Recipe) -> str:
    rules = recipe.rules
    said = [
        rules.max_parameters is not None and f"max_parameters {rules.max_parameters:,}",
        rules.backbones is not None and f"backbones {', '.join(rules.backbones)}",
        rules.pretraining != "any" and f"pretraining {rules.pretraining}",
        rules.licence != "any" and f"licence {rules.licence}",
    ]
    return "; ".join(text for text in said if text)
