"""Stages and rounds that the tests of the training make."""

from fieldguide.settings import ResolvedRounds
from fieldguide.training.plan import Stage


def phase(name="standard", max_epochs=4, learning_rate=0.1, **more):
    """A phase named as its augmentation."""
    own = {"kind": "phase", "name": name, "augmentation": name, "max_epochs": max_epochs, "image_size_px": 32}
    return Stage(**own, learning_rate=learning_rate, batch_norm="train", **more)


def rounds(max_rounds=3, max_epochs=10):
    """Rounds with strong augmentation, each at half the rate."""
    return ResolvedRounds(max_rounds=max_rounds, max_epochs=max_epochs, augmentation="strong")
