"""fastai's `vision_learner(...).fine_tune(epochs)` with its defaults, on given weights.

Its defaults: base_lr 2e-3, one frozen epoch before, batches of 64, its head (two linear layers, both kinds of pooling).
Photos as in its book: presized (460 for 224, here in the same ratio), then `aug_transforms(size, min_scale=0.75)` on
batches. Beyond its defaults it has what makes it fast on a CPU (`ChannelsLast`, and where the machine multiplies bf16
itself a callback of ours for it, since its `to_bf16` does nothing there) and its own `SaveModelCallback`, so that it
keeps its best epoch as the others do.
"""

import tempfile
import time

import accuracy_contract as contract
import torch
from fastai.callback.channelslast import ChannelsLast
from fastai.callback.core import Callback
from fastai.callback.schedule import Learner  # it is this module that gives it fine_tune
from fastai.callback.tracker import SaveModelCallback
from fastai.data.transforms import Normalize
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner
from fastai_train import Autocast
from torchvision import models

PRESIZED = 460 / 224


class Timed(Callback):
    """Epochs with their validation."""

    order = 100  # after all others

    def __init__(self, clock: contract.Stopwatch) -> None:
        self.clock = clock

    def before_epoch(self) -> None:
        self.clock.start()

    def after_epoch(self) -> None:
        self.clock.stop()


def main() -> None:
    options = contract.arguments(__doc__).parse_args()
    network = contract.torchvision_name(options.backbone)
    set_seed(options.seed)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    clock, is_bfloat16 = contract.Stopwatch(), contract.is_bfloat16_native(device)
    data = ImageDataLoaders.from_folder(
        options.photos,
        train="train",
        valid="val",
        item_tfms=Resize(round(options.size * PRESIZED)),
        batch_tfms=[
            *aug_transforms(size=options.size, min_scale=0.75),
            Normalize.from_stats(contract.MEAN, contract.STD),
        ],
        num_workers=options.workers,
        seed=options.seed,
        device=device,
    )
    with tempfile.TemporaryDirectory() as folder:
        learner: Learner = vision_learner(
            data, getattr(models, network), pretrained=False, metrics=accuracy, path=folder, cbs=[ChannelsLast()]
        )
        learner.model[0].load_state_dict(contract.without_head(options.weights))
        learner.add_cbs([Timed(clock), *([Autocast()] if is_bfloat16 else [])])
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(options.epochs, cbs=SaveModelCallback(monitor="accuracy"))
            began, epochs = time.perf_counter(), list(clock.seconds)  # what comes now would count as one more
            scores, _ = learner.get_preds(dl=data.valid)
    predicted = [data.vocab[place] for place in scores.argmax(dim=1).tolist()]
    contract.write(options.output, data.valid_ds.items, predicted, options.photos)
    seconds = time.perf_counter() - began
    contract.report(epochs, seconds, ("fastai", "torchvision", "pillow"), bf16=is_bfloat16)


if __name__ == "__main__":
    main()
