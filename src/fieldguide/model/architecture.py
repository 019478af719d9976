"""What a network is, as plain data that needs no torch to be read."""

from dataclasses import dataclass

HEADS = ("linear", "bottleneck", "mlp")
FEATURES = ("last", "stages", "stages_max")  # what a head takes; see `Classifier`


@dataclass(frozen=True)
class Architecture:
    """What is needed to build a network again; plain data that a bundle stores.

    `image_size_px` matters to a backbone that is built for one size alone; None: that of its pretraining.
    """

    backbone: str
    head: str
    head_width: int | None
    head_dropout: float
    num_classes: int
    features: str = "last"  # what the head takes, one of `FEATURES`
    image_size_px: int | None = None
