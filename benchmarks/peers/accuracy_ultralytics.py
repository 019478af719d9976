"""Ultralytics' classification training on a torchvision ResNet with given weights.

It takes no weights of others by name, but a checkpoint of its own kind; so the given weights are put into its network
of the same torchvision backbone, and that is saved as the checkpoint that it starts from. Since it feeds pixels in 0..1
that are not normalised, ImageNet's mean and deviation are folded into the first convolution and its batch
normalisation (exact but for the border, where it pads with black).

All else is its default for classification (optimizer=auto, RandAugment, erasing, its average of weights, the best
epoch on val/ kept), but for: a batch of 64, its own nominal one, photos kept in memory (`cache=ram`), and a warm-up of
a tenth of the epochs where its three are more than that. By itself it gives torch one core fewer than there are, half
of two; here it gets all. On a CPU it trains in fp32 and NCHW, whatever it is told.
Ultralytics is AGPL: it lives in this environment alone.
"""

import logging
import os
import tempfile
import time
from pathlib import Path

import accuracy_contract as contract

os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())  # its settings file stays out of the home folder
os.environ["YOLO_AUTOINSTALL"] = "false"

import torch
import yaml
from ultralytics import YOLO
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.utils import LOGGER, torch_utils

CHANNELS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048}


def unnormalised(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same network for pixels in 0..1: w' = w / std, and the constant that then lacks joins the running mean."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (contract.MEAN, contract.STD))
    scaled = state["0.weight"] / deviation  # (out, 3, kernel, kernel)
    return state | {"0.weight": scaled, "1.running_mean": state["1.running_mean"] + (scaled * mean).sum(dim=(1, 2, 3))}


def start(network: str, weights: Path, classes: int, folder: Path) -> str:
    """The checkpoint that the training starts from."""
    backbone = [[-1, 1, "TorchVision", [CHANNELS[network], network, None, True, 2]]]
    file = folder / f"{network}-cls.yaml"
    file.write_text(yaml.safe_dump({"nc": classes, "backbone": backbone, "head": [[-1, 1, "Classify", ["nc"]]]}))
    made = YOLO(str(file), task="classify")
    made.model.model[0].m.load_state_dict(unnormalised(contract.without_head(weights)))
    torch.save({"model": made.model}, folder / "start.pt")  # its own save() would round them to fp16
    return str(folder / "start.pt")


def main() -> None:
    options = contract.arguments(__doc__).parse_args()
    network = contract.torchvision_name(options.backbone)
    LOGGER.setLevel(logging.ERROR)
    torch_utils.NUM_THREADS = os.cpu_count() or 1
    clock = contract.Stopwatch()
    device = "0" if torch.cuda.is_available() else "cpu"
    classes = len([folder for folder in (options.photos / "train").iterdir() if folder.is_dir()])
    torch.manual_seed(options.seed)  # the head of the checkpoint
    with tempfile.TemporaryDirectory() as folder:
        trainer = ClassificationTrainer(
            overrides={
                "model": start(network, options.weights, classes, Path(folder)),
                "data": str(options.photos),
                "epochs": options.epochs,
                "imgsz": options.size,
                "batch": 64,
                "workers": options.workers,
                "warmup_epochs": min(3.0, options.epochs / 10),
                "cache": "ram",
                "seed": options.seed,
                "amp": device != "cpu",
                "plots": False,
                "verbose": False,
                "project": folder,
                "device": device,
            }
        )
        trainer.add_callback("on_pretrain_routine_end", lambda trained: _demand_weights(trained, options.weights))
        trainer.add_callback("on_train_epoch_start", lambda _: clock.start())
        trainer.add_callback("on_fit_epoch_end", lambda trained: _stop(clock, trained))
        trainer.train()
        began = time.perf_counter()
        files = sorted(file for file in (options.photos / "val").glob("*/*") if file.is_file())
        model = YOLO(trainer.best, task="classify")
        settings = {"imgsz": options.size, "batch": 64, "stream": True, "save": False, "verbose": False}
        predicted = []
        for place in range(0, len(files), 64):
            part = [str(file) for file in files[place : place + 64]]
            predicted += [found.names[found.probs.top1] for found in model.predict(part, device=device, **settings)]
        contract.write(options.output, files, predicted, options.photos)
        seconds = time.perf_counter() - began
    contract.report(clock.seconds, seconds, ("ultralytics", "torchvision", "pillow"))


def _demand_weights(trained: ClassificationTrainer, weights: Path) -> None:
    """It must not have begun with others, which its reading of checkpoints would not tell."""
    held, given = trained.model.state_dict(), unnormalised(contract.without_head(weights))
    lost = [name for name, value in given.items() if not torch.equal(held[f"model.0.m.{name}"].cpu(), value)]
    if lost:
        raise SystemExit(f"Ultralytics did not take {len(lost)} of the given weights, such as {lost[0]}")


def _stop(clock: contract.Stopwatch, trained: ClassificationTrainer) -> None:
    """At the end of an epoch; its last evaluation calls this once more, and is no epoch."""
    if len(clock.seconds) < trained.epochs:
        clock.stop()


if __name__ == "__main__":
    main()
