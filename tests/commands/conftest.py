"""One small training that the tests of the commands share."""

import base64

import pytest
import timm
import torch
from safetensors.torch import save_file

from fieldguide.commands.terminal.training_display import TrainingDisplay
from tests.commands.by_the_report import train

SMALL = (
    "model.backbone=test_resnet",
    "model.weights=none",
    "rules.backbones=null",
    "data.image_size_px=32",
    "training.batch_size=8",
    "training.learning_rate=0.003",
    "training.phases.0.max_epochs=4",
    "training.phases.1.max_epochs=1",
    "training.rounds=1",
    "training.rounds.max_epochs=1",
)
COUNTS = {
    "train/10": 12, "train/2": 12, "train/cat": 13, "val/10": 4, "val/2": 4, "val/cat": 4,
    "test/10": 3, "test/2": 3, "test/cat": 3,
}  # fmt: skip


EMPTY_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1pt" height="1pt" viewBox="0 0 1 1"></svg>\n'
EMPTY_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(autouse=True)
def drawn_as_empty_pictures(request, monkeypatch):
    """Half of a small training's time is matplotlib's; only tests marked `pictures` look at what it draws.

    The session's shared training, the command line's tests and those of `report` draw as ever.
    """
    if "pictures" not in request.keywords:

        def savefig(self, target, format=None, **_):
            target.write(EMPTY_SVG if format == "svg" else EMPTY_PNG)

        monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)


@pytest.fixture(scope="session")
def small():
    """Overrides that make any recipe small."""
    return SMALL


@pytest.fixture
def photos(tmp_path, make_photos):
    """Train, val and labelled test of three classes whose names do not sort as numbers."""
    return make_photos(tmp_path / "photos", COUNTS)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """(photos, run) of a small training; not to be changed."""
    from tests.conftest import write_photo

    root = tmp_path_factory.mktemp("trained")
    for place, (folder, count) in enumerate(COUNTS.items()):
        hue = {"10": 1, "2": 2, "cat": 3}[folder.rpartition("/")[2]]
        for number in range(count):
            write_photo(root / "photos" / folder / f"{number:03d}.png", hue, 1000 * (place + 1) + number)
    return root / "photos", train(root / "photos", output=root / "run", overrides=SMALL, quiet=True)


@pytest.fixture
def at_step(monkeypatch):
    """at_step(7, act): calls `act` after the seventh step of the next training in this process."""

    def arrange(number, act):
        real, done = TrainingDisplay.step_done, []

        def step_done(self, images):
            real(self, images)
            done.append(images)
            if len(done) == number:
                act()

        monkeypatch.setattr(TrainingDisplay, "step_done", step_done)

    return arrange


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights for a backbone whose statistics fit its photos no better and no worse than others."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "test_resnet.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=0).state_dict(), path)
    return path
