"""The methods that `accuracy.py` compares, and the command for one run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
EPOCHS, MINUTES, END = "epochs", "minutes", "end"
OURS = "accuracy_fieldguide.py"


@dataclasses.dataclass(frozen=True)
class Method:
    """One line of the plot.

    Attributes:
        name: for --methods and in the results.
        title: as the page shows it.
        script: in benchmarks/peers.
        options: for the script.
        told: what it is told of its time: `minutes`; `epochs`, as many as a calibration says fit; `end`, nothing: it
            runs until it ends by itself, once a seed.
        given: what it was given, for the page.
    """

    name: str
    title: str
    script: str
    options: tuple[str, ...]
    told: str
    given: str


_EARLIER = ("phases.0.patience_epochs=3", "phases.1.patience_epochs=3", "rounds=3")  # as the preset was when measured
_REPORT = ("--recipe", "resnet34-adam", *(part for field in _EARLIER for part in ("--set", f"training.{field}")))
METHODS = {
    method.name: method
    for method in (
        Method(
            "auto",
            "fieldguide `auto`",
            OURS,
            (),
            MINUTES,
            "`fieldguide train PHOTOS --minutes M`, nothing else chosen",
        ),
        Method(
            "report",
            "the report's method, exact",
            OURS,
            (*_REPORT, "--set", "execution=exact"),
            END,
            "preset `resnet34-adam` with this backbone and size: phases, three rounds, its arithmetic",
        ),
        Method(
            "report-fast",
            "the report's method, fast",
            OURS,
            (*_REPORT, "--set", "execution=fast"),
            END,
            "the same with `execution: fast`",
        ),
        Method(
            "timm",
            "timm, by layers",
            "accuracy_timm.py",
            ("--setting", "layers"),
            EPOCHS,
            "train.py's pieces: AdamW 1e-3, layer decay 0.65, weight decay 0.05, RandAugment, average of weights with "
            "warm-up, cosine; MixUp and CutMix from 20 epochs on; best epoch",
        ),
        Method(
            "timm-docs",
            "timm, as in its documentation",
            "accuracy_timm.py",
            ("--setting", "docs"),
            EPOCHS,
            "train.py's pieces: AdamW 1e-4, weight decay 0.01, batch 32, cosine, all else its defaults; best epoch",
        ),
        Method(
            "fastai",
            "fastai `fine_tune`",
            "accuracy_fastai.py",
            (),
            EPOCHS,
            "`vision_learner(...).fine_tune(epochs)`, its defaults (2e-3, one frozen epoch before), presizing, "
            "`ChannelsLast`, `SaveModelCallback`",
        ),
        Method(
            "ultralytics",
            "Ultralytics classify",
            "accuracy_ultralytics.py",
            (),
            EPOCHS,
            "its defaults on a torchvision backbone with these weights, ImageNet's normalisation folded into them; "
            "batch 64, `cache=ram`; best epoch",
        ),
    )
}
REPORTS = ("report", "report-fast")
PEERS = ("timm", "timm-docs", "fastai", "ultralytics")


def command(method: Method, interpreter: str, common: Sequence[str], seed: int, told: float | None) -> list[str]:
    """What is typed for one run.

    Args:
        method: which.
        interpreter: of the benchmarks' environment.
        common: options that every script gets.
        seed: of the run.
        told: epochs or minutes; None for one that ends by itself.
    """
    words = [interpreter, str(HERE / "peers" / method.script), *common, *method.options, "--seed", str(seed)]
    if method.told == EPOCHS:
        return [*words, "--epochs", f"{told:.0f}"]
    return [*words, "--minutes", f"{told:g}"] if method.told == MINUTES else words
