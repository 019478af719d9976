"""What fits in the minutes: image size, batch size and epochs, computed from measured costs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Part = Literal["all", "last_two_stages"]

TEST_SIZE_FACTORS = (1.125, 1.25, 1.5)  # tried when the test size is chosen on validation
TEST_CROP_SHARES = (0.875, 0.95, 1.0)  # tried for the crop
RESERVE = 7.0  # seconds where `world.slowness` is 1, for what is written after a training
WRITTEN = 2e-4  # seconds per validation photo for its part of that; with 99 classes 5e-5 of one core
JUDGED = 1.5  # times a pass of the network as built, for a photo judged at the end; measured with two cores: 1.1 to 1.7
KEPT_TO_JUDGE, MOST_TO_JUDGE = 0.15, 0.2  # of the time left, also for `CHOOSING` photos; judging ends with the time
MOST_TO_CHOOSE = 0.05  # of the time left, for one pass over the validation photos; else a part of them chooses
CHOOSING, CHOOSING_A_CLASS = 1_000, 10  # photos that are enough to choose an epoch
FOLLOWING, FOLLOWING_A_CLASS = 50, 1  # photos that are enough where nothing is chosen
FEWEST, FEWEST_A_CLASS = 100, 1  # photos that are judged at the end however little time there is
FILLED = 0.95  # of the time left; a short measurement misses some costs
WELL_TUNED_EPOCHS = 8  # that should fit at an image size
MOST_VIEWS = 3  # of each photo that a probe takes, before a few epochs or none
MOST_VIEWS_OF_FEW, FEW_SEEN = 8, 10_000  # if photos are few: more, but all views together of so many photos
SHORT_EPOCHS = 4  # and fewer, after a probe, are gentle: steps at the full rate would first undo what it found
FEWEST_WHOLE_EPOCHS = 3  # of the whole network; with fewer, train the last two stages if more epochs fit
MOST_CUT, SPARE = 0.1, 1.25  # planned again: of an epoch that may be cut; times the epochs left that fit to take more
FEWEST_OF_AN_EPOCH, FEWEST_LEFT = 0.5, 0.25  # that is worth a stage; after its first epochs, in which the rate can fall
WORTH_STEPS = 40  # of the largest batch, that are worth a stage as well, where photos are many
MOST_EPOCHS = 60  # of fine-tuning; the gain of more was not measured
MOST_EPOCHS_FROM_SCRATCH = 300
OPEN_EPOCHS, OPEN_EPOCHS_FROM_SCRATCH = 12, 60  # without a bound on the time, before the rounds
OPEN_ROUNDS, OPEN_ROUND_EPOCHS = 3, 6
PROBED = 1.1  # times a forward pass alone, for a photo of a probe
FITTING = 2.5  # seconds to choose the strength of such a head and fit it, however few photos there are, on two cores
SOLVING, FURTHER = 8e-4, 5e-4  # that a photo adds to it, and a further view of a photo
MEASURED_HEAD = 1_792 * 99 + 99  # parameters of the largest head that was measured
SMALLEST_BATCH, LARGEST_BATCH, FEWEST_STEPS = 8, 64, 8
SIDES_PX = (96, 128, 160, 192, 224, 256, 288, 320, 384)
ENLARGED = 2.0  # enlarging a photo helps up to this factor


@dataclass(frozen=True)
class Costs:
    """Seconds per photo of a square image on this machine."""

    side_px: int  # of the image
    forward: float  # in evaluation mode
    step: float  # forward, backward and update of the whole network

    def at(self, side_px: int) -> "Costs":
        """The costs at another side; they grow with the number of pixels."""
        factor = (side_px / self.side_px) ** 2
        return Costs(side_px, self.forward * factor, self.step * factor)


@dataclass(frozen=True)
class Task:
    """The training to plan."""

    images: int  # training photos
    validation_images: int  # of each epoch
    num_classes: int
    is_pretrained: bool
    can_probe: bool  # whether the head is one linear layer
    head_parameters: int = 0  # fitting the head takes longer with more
    slowness: float = 1.0  # of this machine, as `world.slowness`; fitting the head takes so many times longer


@dataclass(frozen=True)
class Judging:
    """What has to be judged: validation photos, after each epoch and at the end."""

    images: int  # validation photos
    forward: float  # seconds a photo in evaluation mode
    at_end: float = 0.0  # seconds a photo at the end, with its mirror image if that counts
    soup_candidates: int = 0  # each needs one more validation, also when time runs out
    tried: float = 0.0  # extra judgings to choose size and crop; see `judgings_to_choose`
    pages: float = RESERVE  # seconds for what is written after that

    def end_seconds(self) -> float:
        """To judge all photos at the end."""
        return (1 + self.tried) * self.at_end * self.images

    def choosing(self, seconds: float | None, num_classes: int, *, steps: bool) -> int:
        """How many photos choose the epoch: all if that takes little of the seconds left; `steps`: steps follow."""
        if seconds is None or self.forward * self.images <= MOST_TO_CHOOSE * seconds:
            return self.images
        least, a_class = (CHOOSING, CHOOSING_A_CLASS) if steps else (FOLLOWING, FOLLOWING_A_CLASS)
        return min(self.images, max(least, a_class * num_classes))

    def reserve(self, seconds: float, choosing: int) -> float:
        """Seconds of those left that are needed after the last step: its validation, judging the bundle, the report."""
        last, end = (1 + self.soup_candidates) * self.forward * choosing, self.end_seconds()
        enough = min(MOST_TO_JUDGE * max(0.0, seconds), end * CHOOSING / max(1, self.images))
        return self.pages + WRITTEN * self.images + last + min(end, max(KEPT_TO_JUDGE * seconds, enough))


@dataclass(frozen=True)
class Planned:
    """The plan that fits."""

    probe: bool  # whether a probe fits the head first
    part: Part  # what is trained after the probe
    epochs: int  # of that part; 0: only the probe
    rounds: int  # after these epochs, at most
    round_epochs: int  # of one round
    probe_seconds: float  # expected, as those of an epoch
    epoch_seconds: float
    probe_share: float = 1.0  # share of the training photos that the probe has time for, at most 1
    views: int = 1  # of each photo, for the probe; at most, where no epochs follow for sure
    is_spare: bool = False  # whether its epochs are trained only where the probe leaves time

    @property
    def is_gentle(self) -> bool:
        """Whether it has time for a few epochs only, after a probe."""
        return self.probe and self.epochs <= SHORT_EPOCHS

    @property
    def seconds(self) -> float:
        """Expected, without the rounds."""
        return self.probe_seconds + self.epochs * self.epoch_seconds


def choose_batch_size(images: int) -> int:
    """A power of two from 8 to 64; small enough for eight steps per epoch if there are few photos."""
    size = LARGEST_BATCH
    while size > SMALLEST_BATCH and images < FEWEST_STEPS * size:
        size //= 2
    return size


def candidate_sides(pretrained_px: int, short_side_px: int | None) -> list[int]:
    """Image sizes to consider, smallest first: up to the pretraining size and twice the photos' own size."""
    bound = pretrained_px if short_side_px is None else min(pretrained_px, ENLARGED * short_side_px)
    return [side for side in SIDES_PX if side <= bound] or [min(SIDES_PX[0], pretrained_px)]


def choose_side(sides_px: Sequence[int], costs: Costs, task: Task, seconds: float | None) -> int:
    """The largest side at which a probe and some epochs fit, else the smallest; without a limit, the largest."""
    if seconds is None:
        return max(sides_px)
    fitting = [
        side
        for side in sides_px
        if _probe_seconds(costs.at(side), task) + WELL_TUNED_EPOCHS * _epoch_seconds(costs.at(side), task)
        <= FILLED * seconds
    ]
    return max(fitting, default=min(sides_px))


def plan_epochs(costs: Costs, task: Task, seconds: float | None, part_step: Callable[[], float | None]) -> Planned:
    """Probe, then as many epochs of the whole network as fit; if time is short, the last two stages or no epochs.

    Before few epochs or none, the probe takes further views of each photo: for their time they gain more than steps.
    Where no epoch fits, one is planned for time that the probe may leave: a part of it gained, in the mean with the
    probe.

    Args:
        costs: at the training's image size.
        seconds: left for training and its validations; None: no limit.
        part_step: measures the seconds per photo of a step of the last two stages; None: cannot be measured.
    """
    probes = task.is_pretrained and task.can_probe
    probe, epoch = _probe_seconds(costs, task) if probes else 0.0, _epoch_seconds(costs, task)
    most = MOST_EPOCHS if task.is_pretrained else MOST_EPOCHS_FROM_SCRATCH
    if seconds is None:
        epochs = OPEN_EPOCHS if task.is_pretrained else OPEN_EPOCHS_FROM_SCRATCH
        return Planned(probes, "all", epochs, OPEN_ROUNDS, OPEN_ROUND_EPOCHS, probe, epoch)
    left = max(0.0, FILLED * seconds - probe)
    share = min(1.0, max(0.0, seconds) / probe) if probes else 1.0
    epochs, views = min(most, int(left / epoch)), 1  # no epochs if one never ends
    if probes and epochs <= SHORT_EPOCHS:
        view = task.images * costs.forward * PROBED + solving_of(task).further
        further = min(most_views(task.images) - 1, int(left / view))
        views, probe, left = 1 + further, probe + further * view, left - further * view
        epochs = min(most, int(left / epoch))
    if task.is_pretrained and epochs < FEWEST_WHOLE_EPOCHS and (of_part := part_step()) is not None:
        shorter = _epoch_seconds(Costs(costs.side_px, costs.forward, of_part), task)
        more = min(FEWEST_WHOLE_EPOCHS, int(left / shorter))
        if more > epochs:
            return Planned(probes, "last_two_stages", more, 0, 1, probe, shorter, share, views)
    if not probes:
        epochs = max(1, epochs)  # at least one epoch must start; time may cut it short
    elif not epochs and share == 1:  # as far as the time goes, which is known better after each view
        views, is_spare = most_views(task.images), epoch < math.inf
        return Planned(probes, "all", int(is_spare), 0, 1, probe, epoch, share, views, is_spare)
    return Planned(probes, "all", epochs, 0, 1, probe, epoch, share, views)


def most_views(images: int) -> int:
    """Of each photo that a probe takes before a few epochs or none: more if photos are few."""
    return max(MOST_VIEWS, min(MOST_VIEWS_OF_FEW, FEW_SEEN // max(1, images)))


def epochs_again(
    done: int,
    planned: float,
    epoch_seconds: float,
    seconds: float,
    most: int,
    validation_seconds: float = 0.0,
    fewest: float = FEWEST_OF_AN_EPOCH,
) -> float:
    """How many epochs a stage should have in all, after `done` of them.

    Args:
        planned: so far.
        epoch_seconds: measured, or expected before the first.
        seconds: left for the rest of them.
        most: however much time there is.
        validation_seconds: of `epoch_seconds`; a part of an epoch is validated like a whole one.
        fewest: the part of an epoch that is worth a stage.

    Returns:
        `planned` while it fits or little more does; 0 only if decided before the first. Few epochs may end within one.
    """
    fits = max(0.0, seconds) / max(epoch_seconds, 1e-9)
    rest = planned - done
    if rest <= 0:  # the rate has fallen to 0
        return planned
    all_that_fit = _that_fit(FILLED * seconds, epoch_seconds, validation_seconds)
    part = _worth_planning(all_that_fit)
    if fits >= rest - MOST_CUT:  # a last epoch that is cut a little loses only steps at a low rate
        more = min(float(most), done + part)
        return more if more - done >= max(rest + FEWEST_OF_AN_EPOCH, SPARE * rest) else planned
    if done == 0 and fits + MOST_CUT < 1:
        return all_that_fit if all_that_fit >= FILLED * fewest else 0.0
    return done + max(part, int(fits + MOST_CUT))


def _that_fit(seconds: float, epoch_seconds: float, validation_seconds: float) -> float:
    """Whole epochs and a part of one."""
    whole, rest = divmod(max(0.0, seconds), max(epoch_seconds, 1e-9))
    return whole + max(0.0, rest - validation_seconds) / max(epoch_seconds - validation_seconds, 1e-9)


def _worth_planning(epochs: float) -> float:
    """Whole epochs, and a part of one where there are few."""
    whole = int(epochs)
    return epochs if epochs <= SHORT_EPOCHS and epochs - whole >= FEWEST_LEFT else whole


def has_no_time_for_steps(forward: float, task: Task, seconds: float | None) -> bool:
    """Whether no steps that are worth it fit after the probe, even if one cost only two forward passes."""
    if seconds is None or not (task.is_pretrained and task.can_probe):
        return False
    after = FILLED * seconds - _probe_seconds(Costs(0, forward, 0.0), task)
    return after < 2 * forward * task.images * fewest_of_an_epoch(task.images)


def fewest_of_an_epoch(images: int) -> float:
    """The part of an epoch that is worth a stage."""
    return min(FEWEST_OF_AN_EPOCH, WORTH_STEPS * LARGEST_BATCH / max(1, images))


def judgings_to_choose(*, size: bool, crop: bool, crop_share: float | None = None) -> float:
    """The most that choosing test size and crop can cost, in judgings at the training's size.

    The training's own `crop_share` is always tried.
    """
    if not (size or crop):
        return 0.0
    sizes = [factor**2 for factor in TEST_SIZE_FACTORS] if size else []
    others = sum(share != crop_share for share in TEST_CROP_SHARES) if crop else 0
    crops = others * max(sizes, default=1.0)
    largest = max(sizes, default=1.0) - 1  # what the final judging costs more at that size
    return 1 + sum(sizes) + crops + largest


def fewest_judged(num_classes: int) -> int:
    """How many validation photos are judged however little time there is."""
    return max(FEWEST, FEWEST_A_CLASS * num_classes)


def _probe_seconds(costs: Costs, task: Task) -> float:
    """Of one view."""
    solving = solving_of(task)
    return (task.images + task.validation_images) * costs.forward * PROBED + solving.always + solving.first + 1.0


@dataclass(frozen=True)
class Solving:
    """Seconds to fit the head of a probe."""

    always: float  # however few photos there are
    first: float  # that the first view of each photo adds
    further: float  # that each further view adds; the strength is chosen on the first


def solving_of(task: Task) -> Solving:
    """What fitting the head takes: more for one with more parameters."""
    size = task.head_parameters / MEASURED_HEAD
    photos = task.slowness * task.images * max(1.0, size)
    return Solving(task.slowness * FITTING * size, SOLVING * photos, FURTHER * photos)


def _epoch_seconds(costs: Costs, task: Task) -> float:
    return task.images * costs.step + task.validation_images * costs.forward
