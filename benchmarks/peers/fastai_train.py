"""fastai's Learner: its RandomResizedCrop on photos and aug_transforms on batches, its fit, its callbacks.

fastai's `to_bf16` asks for autocast of CUDA and does nothing on a CPU. With --precision bf16 this script adds a
callback of its own that does the same for the CPU; so fastai gets more than it ships.
"""

import functools

import contract
import timm
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback
from fastai.callback.fp16 import MixedPrecision
from fastai.data.transforms import Normalize
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import Adam, OptimWrapper
from fastai.vision.augment import Hue, RandomResizedCrop, Saturation, aug_transforms
from fastai.vision.data import ImageDataLoaders


class Autocast(Callback):
    """fastai's MixedPrecision for bf16, with the device's own autocast."""

    order = MixedPrecision.order

    def before_batch(self) -> None:
        self.context = torch.autocast(contract.device().type, torch.bfloat16)
        self.context.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self.context.__exit__(None, None, None)


class Timed(Callback):
    """An epoch's training without its validation."""

    def __init__(self, watch: contract.Stopwatch) -> None:
        self.watch = watch

    def before_train(self) -> None:
        self.watch.start()

    def after_train(self) -> None:
        self.watch.stop()


def main() -> None:
    options = contract.arguments(__doc__).parse_args()
    contract.set_threads(options.threads)
    watch = contract.Stopwatch()
    augment = aug_transforms(
        max_rotate=15, max_zoom=1.0, max_lighting=0.1, max_warp=0, xtra_tfms=[Saturation(0.1), Hue(0.1)]
    )
    data = ImageDataLoaders.from_folder(
        options.photos,
        train="train",
        valid="val",
        item_tfms=RandomResizedCrop(options.size, min_scale=0.08),
        batch_tfms=[*augment, Normalize.from_stats(contract.MEAN, contract.STD)],
        bs=options.batch,
        num_workers=options.workers,
        device=contract.device(),
    )
    model = timm.create_model(contract.NETWORKS[options.network], num_classes=len(data.vocab)).to(contract.device())
    callbacks = [Timed(watch)]
    if options.channels_last:
        callbacks.append(ChannelsLast())
    if options.precision == "bf16":
        callbacks.append(Autocast())
    fused = functools.partial(OptimWrapper, opt=torch.optim.Adam, fused=True)
    learner = Learner(
        data,
        torch.compile(model) if options.compile else model,
        loss_func=CrossEntropyLossFlat(),
        opt_func=fused if options.fused else Adam,
        cbs=callbacks,
    )
    with learner.no_bar(), learner.no_logging():
        learner.fit(options.epochs, 1e-3)
    contract.report_training(watch, len(data.train) * options.batch, ("fastai", "timm", "torchvision", "pillow"))


if __name__ == "__main__":
    main()
