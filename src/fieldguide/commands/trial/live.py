"""A training's live objects, together with what it was asked for."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fieldguide import assemble, world
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.prepare import Prepared
from fieldguide.data.split.partition import Split
from fieldguide.model.weights import LoadedWeights
from fieldguide.recipe.lives import ResolvedRecipe, SettledRecipe
from fieldguide.run_folder import RunFolder
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.observers import Callback
from fieldguide.world.processes import Team, team

WAITED = "waited_for_data"  # in a checkpoint: seconds waited, seconds in all


@dataclass(frozen=True)
class Trial:
    """All parts of one training; its run is locked by this process.

    `rules` is the verdict on the rules; `seconds_left` returns the time left in seconds (None: no limit).
    """

    name: str
    recipe: SettledRecipe
    prepared: Prepared
    run: RunFolder
    device: str
    assembled: assemble.Assembled
    rules: dict[str, Any]
    screen: Screen
    seconds_left: Callable[[], float] | None = None
    callbacks: Sequence[Callback] = ()

    @property
    def split(self) -> Split:
        """Which photo is in which part."""
        return self.prepared.split

    @property
    def team(self) -> Team | None:
        """The processes that train it together; None: this one is alone."""
        return team()

    @functools.cached_property
    def checkpoints(self) -> Checkpoints:
        """Its checkpoints on disk, written beside the training."""
        waiting, training = self.assembled.feed.waiting, self.recipe.training
        return Checkpoints(
            self.run.checkpoints,
            training.checkpoint_every_minutes,
            lambda: {WAITED: waiting.told()},
            every_epoch=training.checkpoint == "epoch",
            in_background=True,
        )


def assembled(
    recipe: ResolvedRecipe,
    prepared: Prepared,
    device: str,
    screen: Screen,
    outlook: assemble.Outlook,
    workers: int | None = None,
    loaded: LoadedWeights | None = None,
) -> assemble.Assembled:
    """Builds the live objects, and shows how many photos of training and validation a fast one has cached."""
    split, chosen, contents = prepared.split, world.choose_device(device), prepared.contents
    paths, tell = {photo.file: photo.path for photo in prepared.folder.photos}, screen.warn
    with screen.counting("caching photos", len(split.part("train")) + len(split.part("val"))) as advance:
        made = assemble.assemble(
            recipe, split, paths, chosen, workers, loaded, tell, advance, outlook, contents, team()
        )
    if made.recipe.data.cache_side_px != 0:  # else the training reads photos as it goes
        contents.clear()
    return made
