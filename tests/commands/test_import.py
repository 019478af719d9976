"""A checkpoint that another program trained, of the same network and head."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import fieldguide
from fieldguide import UsageError, import_checkpoint
from fieldguide.cli import app

CLASSES = ("10", "2", "cat")
TINY = ("model.backbone=test_resnet", "rules.backbones=null", "data.image_size_px=32", "model.head_width=8")


def author(*, order="report", classes=3):
    """The network as a student writes it: a timm network whose classifier is replaced by a Sequential."""
    torch.manual_seed(1)
    model = timm.create_model("test_resnet", num_classes=classes)
    width = model.fc.in_features
    middle = [nn.ReLU(), nn.BatchNorm1d(8)] if order == "report" else [nn.BatchNorm1d(8), nn.ReLU()]
    model.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(width, 8), *middle, nn.Dropout(0.3), nn.Linear(8, classes))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):  # so that a missing statistic would show
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
    return model.eval()


class Parts(nn.Module):
    """Backbone and classifier as parts of a class of their own."""

    def __init__(self):
        super().__init__()
        self.resnet = author()
        self.classifier, self.resnet.fc = self.resnet.fc, nn.Identity()

    def forward(self, images):
        return self.classifier(self.resnet(images))


@pytest.fixture
def files(tmp_path):
    (tmp_path / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "photo.png")
    return tmp_path


def imported(files, state, **options):
    torch.save(state, files / "best.pth")
    return import_checkpoint(
        files / "best.pth", "resnet50-adam", files / "classes.txt", files / "run", overrides=TINY, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ["plain", "DataParallel", "parts", "checkpoint"])
def test_what_it_answers_is_what_the_authors_network_answers(files, how):
    network = Parts().eval() if how == "parts" else author()
    state = network.state_dict()
    if how == "DataParallel":
        state = {f"module.{name}": value for name, value in state.items()}
    if how == "checkpoint":
        state = {"epoch": 3, "state_dict": state}
    made = imported(files, state)
    assert made.classes == CLASSES and made.remarks == ()
    assert made.parameters["total"] == sum(value.numel() for value in network.parameters())
    predictor = fieldguide.load(files / "run")
    assert predictor.classes == CLASSES
    with Image.open(files / "photo.png") as photo:  # by torchvision, as the author's script does
        from torchvision.transforms import v2

        images = v2.Compose([
            v2.PILToTensor(), v2.Resize(37, antialias=True), v2.CenterCrop(32), v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ])(photo)[None]  # fmt: skip
    with torch.inference_mode():
        expected = network(images).softmax(1).numpy()
    assert predictor.predict_proba([files / "photo.png"]) == pytest.approx(expected, abs=2e-3)


def test_a_head_whose_layers_come_in_another_order_is_refused(files):
    with pytest.raises(UsageError, match=r"layers are at 1, 2, 5, the recipe's at 1, 3, 5, so they come in another"):
        imported(files, author(order="normalised first").state_dict())
    assert not (files / "run").exists()


@pytest.mark.slow
def test_another_number_of_classes_or_another_head_is_refused_with_both_heads(files):
    with pytest.raises(UsageError, match=r"its head has fc\.1 .*fc\.5 \(4 x 8\); the recipe's has 1 .*5 \(3 x 8\)"):
        imported(files, author(classes=4).state_dict())
    with pytest.raises(UsageError, match=r"its head has no layers"):
        imported(files, {n: v for n, v in author().state_dict().items() if not n.startswith("fc.")})


def test_a_backbone_that_is_not_whole_is_refused(files):
    state = author().state_dict()
    del state["layer1.0.bn1.running_mean"]
    with pytest.raises(UsageError, match=r"the backbone's layer1\.0\.bn1\.running_mean is not in the file"):
        imported(files, state)


def test_numbered_classes_in_the_order_of_their_numbers_are_warned_of(files):
    (files / "classes.txt").write_text("1\n2\n10\n")
    made = imported(files, author().state_dict())
    assert any("ImageFolder sorts names as text" in remark for remark in made.remarks)


def test_mistakes_are_told_all_at_once_and_nothing_is_written(files):
    (files / "classes.txt").write_text("a\n\na\n")
    (files / "taken").mkdir()
    (files / "taken/x").write_text("")
    settings = [part for field in TINY for part in ("--set", field)]
    given = ["--recipe", "resnet50-adam", "--classes", files / "classes.txt", "-o", files / "taken", *settings]
    shown = CliRunner().invoke(app, ["import", str(files / "no.pth"), *map(str, given)])
    words = " ".join(shown.output.split())
    assert shown.exit_code == 2
    for told in ("no.pth: no such file", "line 2 is empty", "line 3 repeats a of line 1", "exists and is not empty"):
        assert told in words


def test_the_command_says_what_was_made_and_how_to_judge_it(files):
    torch.save(author().state_dict(), files / "best.pth")
    settings = [part for field in TINY for part in ("--set", field)]
    given = ["--recipe", "resnet50-adam", "--classes", files / "classes.txt", "-o", files / "run", *settings]
    shown = CliRunner().invoke(app, ["import", str(files / "best.pth"), *map(str, given)])
    assert shown.exit_code == 0 and "3 classes" in shown.output and "head included" in shown.output
    assert f"fieldguide evaluate {files / 'run'} PHOTOS" in " ".join(shown.output.split())
