"""fastai's get_preds on a test loader, with its own resizing and centre crop; bf16 on a CPU by the added callback."""

import csv
import tempfile
from pathlib import Path

import contract
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.data.transforms import Normalize
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.augment import RandomResizedCrop
from fastai.vision.data import ImageDataLoaders
from fastai_train import Autocast
from PIL import Image


def loaders(folder: Path, options) -> ImageDataLoaders:
    """fastai makes its test loader out of training loaders; two small files are enough for that."""
    files = []
    for place in range(2):
        Image.new("RGB", (options.size, options.size)).save(folder / f"{place}.jpg")
        files.append(folder / f"{place}.jpg")
    return ImageDataLoaders.from_lists(
        folder,
        files,
        ["a", "b"],
        valid_pct=0.5,
        item_tfms=RandomResizedCrop(options.size),  # in validation: resized, then the centre
        batch_tfms=[Normalize.from_stats(contract.MEAN, contract.STD)],
        bs=options.batch,
        num_workers=options.workers,
        device=contract.device(),
    )


def main() -> None:
    options = contract.arguments(__doc__).parse_args()
    contract.set_threads(options.threads)
    model = contract.network(options).to(contract.device())
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if options.compile:
        model = torch.compile(model)
    callbacks = [Autocast()] if options.precision == "bf16" else []
    if options.channels_last:
        callbacks.append(ChannelsLast())
    with tempfile.TemporaryDirectory() as folder:
        data = loaders(Path(folder), options)
        learner = Learner(data, model, loss_func=CrossEntropyLossFlat(), cbs=callbacks)

        def predict(photos: str, output: str) -> int:
            files = sorted(Path(photos).iterdir())
            probabilities, _ = learner.get_preds(dl=data.test_dl(files, num_workers=options.workers))
            best = probabilities.max(dim=1)
            with open(output, "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("image", "label", "confidence"))
                for photo, label, value in zip(files, best.indices.tolist(), best.values.tolist(), strict=True):
                    writer.writerow((photo.name, label, f"{value:.6f}"))
            return len(files)

        with learner.no_bar():
            if not options.whole:
                learner.get_preds(dl=data.test_dl([Path(folder) / "0.jpg"] * options.batch))
            contract.time_prediction(predict, options, ("fastai", "timm", "torchvision", "pillow"))


if __name__ == "__main__":
    main()
