"""From recipe and split to live objects: network, plan, batches, evaluation. The only place that joins the rooms."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from fieldguide.assemble.automatic import Outlook as Outlook
from fieldguide.assemble.automatic import Planner
from fieldguide.assemble.compiling import NO, Graphs, choose, may_pay, usual_piece
from fieldguide.assemble.described import CPU as CPU
from fieldguide.assemble.described import NO_COMPILER
from fieldguide.assemble.described import architecture as architecture
from fieldguide.assemble.described import demand_before_photos as demand_before_photos
from fieldguide.assemble.described import demand_no_contradiction as demand_no_contradiction
from fieldguide.assemble.described import hold_against_rules as hold_against_rules
from fieldguide.assemble.described import preprocessing_of as preprocessing_of
from fieldguide.assemble.described import problems_with_machine as problems_with_machine
from fieldguide.assemble.described import problems_with_model as problems_with_model
from fieldguide.assemble.described import reading_of as reading_of
from fieldguide.assemble.described import resolved as resolved
from fieldguide.assemble.described import served_preprocessing_of as served_preprocessing_of
from fieldguide.assemble.described import with_backbone as with_backbone
from fieldguide.assemble.sizing import SPARE, fit, meter_of
from fieldguide.assemble.tools import Paths, make_tools
from fieldguide.assemble.validating import in_proportion as in_proportion
from fieldguide.data.batch.batches import LabelledPhoto
from fieldguide.data.batch.feed import WITHOUT_OPENCV, Feed, can_fuse, make_feed
from fieldguide.data.read.cache import Cache
from fieldguide.data.read.contents import Contents
from fieldguide.data.read.photo_pixels import PhotoPixels, ToJudge
from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.data.split.partition import Split
from fieldguide.errors import UsageError
from fieldguide.model.architecture import Architecture
from fieldguide.model.batch_norm import set_batch_norm
from fieldguide.model.classifier import Classifier, count_parameters, make_classifier
from fieldguide.model.description import Description
from fieldguide.model.weights import LoadedWeights, load_weights
from fieldguide.recipe.lives import PlannedRecipe, ResolvedRecipe, SettledRecipe, SizedRecipe
from fieldguide.recipe.resolve import settle
from fieldguide.training.plan import Plan, Stage
from fieldguide.training.step import MicroBatch
from fieldguide.training.tools import Tools
from fieldguide.world import can_compile, fastest_precision, repeatable
from fieldguide.world.processes import Team

UNBOUND = Outlook()


@dataclass(frozen=True)
class Assembled:
    """Everything that a training needs."""

    recipe: SettledRecipe
    model: Classifier  # with its first weights, on the device
    plan: Plan
    tools: Tools
    description: Description  # of the bundle
    parameters: dict[str, int]  # total, backbone, head
    weights: LoadedWeights  # where the first weights came from
    feed: Feed  # the source of the batches, and how long the training waited for them
    to_judge: ToJudge  # the validation photos
    told: tuple[str, ...] = ()  # the plan that was made here, in sentences; empty if the recipe had one
    compiling: str = ""  # what was measured of torch.compile, as a sentence; empty if nothing was
    graphs: Graphs | None = None  # what is compiled; None: nothing


def assemble(
    recipe: ResolvedRecipe,
    split: Split,
    paths: Paths,
    device: torch.device,
    workers: int | None = None,
    loaded: LoadedWeights | None = None,
    tell: Callable[[str], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
    outlook: Outlook = UNBOUND,
    contents: Contents | None = None,
    team: Team | None = None,
) -> Assembled:
    """Builds all that a training needs; `plan: auto` is decided here, once.

    Args:
        workers: processes or threads that load photos; None: chosen here. Results do not depend on it.
        loaded: for a training that resumes, where its first weights came from; None: read the weights.
        contents: what was read before.
        team: the processes that train together; None: this one is alone.

    Raises:
        UsageError: the weights cannot be loaded or do not fit, batch normalisation cannot be folded, or no compiler.
        PhotosError: a photo that is not cached cannot be read, or has changed.
    """
    if recipe.training.compile == "always" and not can_compile(device):
        raise UsageError(NO_COMPILER)
    described = architecture(recipe, len(split.classes))
    model, weights = _network(recipe, described, split.classes, device, loaded)
    planner = Planner(recipe, model, device, split, 1 if team is None else team.size)
    sized = recipe if isinstance(recipe, SizedRecipe) else planner.with_sizes(outlook)
    demand_no_contradiction(sized)
    preprocessing = preprocessing_of(sized)
    if any(phase.batch_norm == "folded" for phase in sized.training.phases):  # refused now, not when the phase begins
        set_batch_norm(copy.deepcopy(model), "folded", preprocessing.image_size_px)
    feed = _make_feed(sized, split, paths, preprocessing, device, workers, advance, contents)
    to_judge = _to_judge(sized, split, paths, advance, contents)
    planned, told, pace = (sized, (), None) if isinstance(sized, PlannedRecipe) else planner.with_plan(sized, outlook)
    plan = replace(make_plan(planned), max_seconds=planner.most_seconds(planned, outlook), pace=pace)
    settled, compiling = _settled(planned, model, plan.most_epochs() * len(split.part("train")), feed, outlook, team)
    demand_no_contradiction(settled)
    graphs = _graphs(settled, team)
    return Assembled(
        recipe=settled,
        model=model,
        plan=plan,
        tools=make_tools(settled, split, to_judge, preprocessing, device, feed, tell, team, graphs),
        description=Description(
            described,
            tuple(split.classes),
            served_preprocessing_of(settled).to_dict(),
            weights.pretrained_on,
            max_megapixels=settled.data.max_megapixels,
            licence=weights.licence,
        ),
        parameters=count_parameters(model),
        weights=weights,
        feed=feed,
        to_judge=to_judge,
        told=told,
        compiling=compiling,
        graphs=graphs,
    )


def _network(
    recipe: ResolvedRecipe,
    described: Architecture,
    classes: Sequence[str],
    device: torch.device,
    loaded: LoadedWeights | None,
) -> tuple[Classifier, LoadedWeights]:
    """The network with its first weights, on the device, and where these came from."""
    with repeatable(recipe.training.seed):
        model = make_classifier(described)
    weights = loaded or load_weights(model, recipe.model.weights, recipe.model.backbone, classes)
    model = model.to(device)
    if recipe.execution == "fast":
        model = model.to(memory_format=torch.channels_last)
    return model, weights


def _settled(
    recipe: PlannedRecipe, model: Classifier, images: int, feed: Feed, outlook: Outlook, team: Team | None
) -> tuple[SettledRecipe, str]:
    """The recipe with every `auto` decided by device, memory, time and number of images; and what compiling does."""
    training, device = recipe.training, next(model.parameters()).device
    precision = fastest_precision(device) if training.precision == "auto" else training.precision
    most = training.batch_size if team is None else team.most(training.batch_size)
    found = fit(model, recipe, precision, most, meter_of(device), is_needed=feed.is_on_device)
    feed.settle(int(SPARE * found.bytes))
    size = found.photos
    compiling = NO
    if may_pay(recipe, device):
        photos, steps = usual_piece(training.batch_size, MicroBatch(size), team), images // training.batch_size
        compiling = choose(model, recipe, precision, photos, steps, outlook.seconds())
    settled = settle(recipe, precision=precision, compile=compiling.compiles, micro_batch_size=size)
    return settled, compiling.told


def _graphs(recipe: SettledRecipe, team: Team | None) -> Graphs | None:
    training = recipe.training
    if training.compile == "never":
        return None
    return Graphs(training.batch_size, MicroBatch(training.micro_batch_size), team)


def make_plan(recipe: PlannedRecipe) -> Plan:
    """The phases and rounds of a recipe, as the loop takes them."""
    training = recipe.training
    return Plan(
        phases=tuple(Stage(kind="phase", **dict(phase)) for phase in training.phases if not phase.is_left_out),
        rounds=training.rounds,
        max_epochs=training.max_epochs,
        best_by=training.best_by,
        ema_decay=training.ema_decay,
        soup_candidates=training.soup_candidates or 0,
        averages_with_probe=training.soup == "probe",
        metric=training.metric,
    )


def _photos(split: Split, part: str, paths: Paths) -> list[LabelledPhoto]:
    label_of = {name: index for index, name in enumerate(split.classes)}
    rows = split.part(part)
    return [LabelledPhoto(paths[row.file], row.file, label_of[row.class_name], row.content_hash) for row in rows]


def _to_judge(
    recipe: SizedRecipe, split: Split, paths: Paths, advance: Callable[[int], None], contents: Contents | None
) -> ToJudge:
    """The validation photos; in `fast`, each is decoded once for all epochs and test sizes."""
    photos, reading = _photos(split, "val", paths), reading_of(recipe.data)
    if recipe.execution != "fast" or recipe.data.cache_side_px == 0:
        return ToJudge(photos, PhotoPixels(0, reading, contents))
    return ToJudge(photos, Cache().whole_pixels_of(photos, reading, advance, contents))


def _make_feed(
    recipe: SizedRecipe,
    split: Split,
    paths: Paths,
    preprocessing: Preprocessing,
    device: torch.device,
    workers: int | None,
    advance: Callable[[int], None],
    contents: Contents | None,
) -> Feed:
    """The training's batches, by the engine that the recipe names."""
    engine = recipe.augmentation.engine
    feed = make_feed(
        _photos(split, "train", paths),
        recipe.augmentation.known(),
        preprocessing,
        engine=engine,
        cache_side_px=recipe.data.cache_side_px or 0,
        seed=recipe.training.seed,
        batch_size=recipe.training.batch_size,
        reading=reading_of(recipe.data),
        device=device,
        workers=workers,
        advance=advance,
        contents=contents,
    )
    missed = recipe.execution == "fast" and engine == "reference" and not can_fuse(device)
    return replace(feed, remarks=(*feed.remarks, WITHOUT_OPENCV)) if missed else feed
