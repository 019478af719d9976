"""What `ablations.py` removes from a training, changes in it or adds to it."""

import dataclasses
from collections.abc import Callable

BASE = "base"
Phases = Callable[[int, int], str]  # epochs and image size -> the field's value
SMALLER = 0.75  # of the image size, where the first epochs have a smaller one


@dataclasses.dataclass(frozen=True)
class Part:
    """A variant of the training.

    Attributes:
        name: for --parts and in the results.
        title: as the table shows it.
        auto_has: the same in `auto`: `yes`, `no`, or what it has instead of this.
        settings: of the recipe, as `--set` takes them, beside its phases.
        phases: the phases.
        for_macro: whether it is there for macro accuracy, so that it is judged by that too.
    """

    name: str
    title: str
    auto_has: str
    settings: tuple[str, ...]
    phases: Phases
    for_macro: bool = False

    def fields(self, epochs: int, size_px: int) -> list[str]:
        """As `--set` takes them."""
        return [*self.settings, f"training.phases={self.phases(epochs, size_px)}"]


def _probe(augmentation: str = "none", views: int = 1) -> str:
    return (
        f"{{method: probe, augmentation: {augmentation}, views: {views}, max_epochs: 1, trainable: head, "
        "batch_norm: folded}"
    )


def _tuned(epochs: int, augmentation: str = "mild", batch_norm: str = "folded", more: str = "") -> str:
    return (
        f"{{augmentation: {augmentation}, batch_norm: {batch_norm}, max_epochs: {epochs}, "
        f"patience_epochs: {epochs}{more}}}"
    )


def _growing(epochs: int, size_px: int) -> str:
    small = _tuned(epochs // 2, more=f", image_size_px: {round(SMALLER * size_px / 32) * 32}")
    return f"[{_probe()}, {small}, {_tuned(epochs - epochs // 2)}]"


def _with(augmentation: str = "mild", batch_norm: str = "folded", more: str = "", probe: str | None = None) -> Phases:
    return lambda epochs, _: f"[{probe or _probe()}, {_tuned(epochs, augmentation, batch_norm, more)}]"


def _own_policy(field: str) -> str:
    mild = "crop_scale: [0.25, 1.0], brightness: 0.1, contrast: 0.1, saturation: 0.1"
    return f"augmentation.policies={{own: {{{mild}, {field}}}}}"


PLAIN = _with()
MIXED = "training.mix_probability=0.5"
CUTMIX, MIXUP, AVERAGED = "training.cutmix_alpha=1.0", "training.mixup_alpha=0.2", "training.ema_decay=0.998"
BOTH = (CUTMIX, MIXUP, MIXED)
PARTS = {
    part.name: part
    for part in (
        Part(BASE, "the training itself", "yes", (), PLAIN),
        Part("no-probe", "head by chance", "probe", ("training.soup=none",), lambda epochs, _: f"[{_tuned(epochs)}]"),
        Part("last-features", "features of the last stage alone", "of three", ("model.features=last",), PLAIN),
        Part("no-maxima", "means of three stages alone", "means and maxima", ("model.features=stages",), PLAIN),
        Part("views", "probe on three views", "before few epochs", (), _with(probe=_probe("gentle", 3))),
        Part("one-rate", "one rate, 3e-4", "by depth", ("training.layer_decay=1",), PLAIN),
        Part(
            "one-low-rate",
            "one rate, 1e-4",
            "by depth",
            ("training.layer_decay=1", "training.learning_rate=0.0001"),
            PLAIN,
        ),
        Part("high-rate", "1e-3 at the top", "3e-4", ("training.learning_rate=0.001",), PLAIN),
        Part("head-10", "head at ten times the rate", "once", ("training.head_learning_rate_factor=10",), PLAIN),
        Part("decay-all", "weight decay on all", "matrices", ("training.weight_decay_on=all",), PLAIN),
        Part("no-decay", "no weight decay", "0.05", ("training.weight_decay=0",), PLAIN),
        Part("no-warm-up", "no warm-up", "half an epoch", ("training.warmup_epochs=0",), PLAIN),
        Part(
            "constant",
            "constant rate",
            "cosine",
            ("training.schedule=constant", "training.warmup_epochs=null"),
            PLAIN,
        ),
        Part("no-smoothing", "no label smoothing", "0.1", ("training.label_smoothing=0",), PLAIN),
        Part(
            "lean",
            "no rates by depth, decay, warm-up and smoothing",
            "all four",
            (
                "training.layer_decay=1",
                "training.weight_decay=0",
                "training.warmup_epochs=0",
                "training.label_smoothing=0",
            ),
            PLAIN,
        ),
        Part(
            "sgd",
            "SGD, 0.01, momentum 0.9",
            "AdamW",
            ("training.optimizer=sgd", "training.learning_rate=0.01", "training.weight_decay=0.0001"),
            PLAIN,
        ),
        Part("norm-frozen", "batch normalisation frozen", "folded", (), _with(batch_norm="frozen")),
        Part("norm-train", "batch normalisation trained", "folded", (), _with(batch_norm="train")),
        Part("standard", "augmentation `standard`", "`mild`", (), _with("standard")),
        Part("last-two", "last two stages alone", "where short", (), _with(more=", trainable: last_two_stages")),
        Part("trivial", "TrivialAugment", "no", (_own_policy("trivial_augment: wide"),), _with("own")),
        Part("erasing", "random erasing of a quarter", "no", (_own_policy("erasing: 0.25"),), _with("own")),
        Part("cutmix", "CutMix (1.0) in half of the batches", "no", (CUTMIX, MIXED), PLAIN),
        Part("mixup", "MixUp (0.2) in half of the batches", "no", (MIXUP, MIXED), PLAIN),
        Part("mixed", "both, in half of the batches", "from 20 epochs", BOTH, PLAIN),
        Part("mixed-ema", "both, and an average of weights", "no", (*BOTH, AVERAGED), PLAIN),
        Part("ema", "average of weights, 0.998", "no", (AVERAGED,), PLAIN),
        Part("soup", "greedy soup of five epochs", "no", ("training.soup=greedy",), PLAIN),
        Part("no-mean", "no mean with the probe", "mean, if better", ("training.soup=none",), PLAIN),
        Part(
            "gentle",
            "1e-4, crops from a half, no mirror images, no smoothing",
            "up to 4 epochs",
            ("training.label_smoothing=0",),
            _with("gentle", more=", learning_rate: 0.0001"),
        ),
        Part("growing", "first half at three quarters of the size", "no", (), _growing),
        Part(
            "adjusted",
            "logit adjustment",
            "for macro accuracy",
            ("training.imbalance=logit_adjustment",),
            PLAIN,
            for_macro=True,
        ),
        Part("balanced", "balanced sampling", "no", ("training.imbalance=balanced_sampling",), PLAIN, for_macro=True),
        Part("flips", "photo and mirror image at test time", "the photo alone", ("data.test_flips=horizontal",), PLAIN),
        Part(
            "test-size",
            "size and crop of the test chosen on validation",
            "no",
            ("data.test_size_px=auto", "data.test_crop_share=auto"),
            PLAIN,
        ),
    )
}
