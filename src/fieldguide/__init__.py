"""Turn a folder of photos into an image classifier you can trust.

    import fieldguide

    run = fieldguide.train("photos/", recipe="resnet34-adam", output="runs/a")
    fieldguide.load("runs/a").predict(["x.jpg"])

The names below are imported when they are first used, so that the command line stays quick.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldguide.commands.check import check
    from fieldguide.commands.compare import compare
    from fieldguide.commands.evaluate import Evaluation, evaluate
    from fieldguide.commands.experiment import Experiment, experiment
    from fieldguide.commands.predict import Predicted, predict
    from fieldguide.commands.resume import resume
    from fieldguide.commands.train import train
    from fieldguide.commands.trial.carry_out import Run
    from fieldguide.data.look.look_over import CheckReport
    from fieldguide.deploy.answers import Prediction
    from fieldguide.deploy.predictor import Predictor
    from fieldguide.deploy.predictor import load_predictor as load
    from fieldguide.errors import FieldguideError, MachineError, PhotosError, TrainingError, UsageError

__all__ = [
    "CheckReport",
    "Evaluation",
    "Experiment",
    "FieldguideError",
    "MachineError",
    "PhotosError",
    "Predicted",
    "Prediction",
    "Predictor",
    "Run",
    "TrainingError",
    "UsageError",
    "check",
    "compare",
    "evaluate",
    "experiment",
    "load",
    "predict",
    "resume",
    "train",
]

_PLACES = {
    "CheckReport": ("data.look.look_over", "CheckReport"),
    "Evaluation": ("commands.evaluate", "Evaluation"),
    "Experiment": ("commands.experiment", "Experiment"),
    "FieldguideError": ("errors", "FieldguideError"),
    "MachineError": ("errors", "MachineError"),
    "PhotosError": ("errors", "PhotosError"),
    "Predicted": ("commands.predict", "Predicted"),
    "Prediction": ("deploy.answers", "Prediction"),
    "Predictor": ("deploy.predictor", "Predictor"),
    "Run": ("commands.trial.carry_out", "Run"),
    "TrainingError": ("errors", "TrainingError"),
    "UsageError": ("errors", "UsageError"),
    "check": ("commands.check", "check"),
    "compare": ("commands.compare", "compare"),
    "evaluate": ("commands.evaluate", "evaluate"),
    "experiment": ("commands.experiment", "experiment"),
    "load": ("deploy.predictor", "load_predictor"),
    "predict": ("commands.predict", "predict"),
    "resume": ("commands.resume", "resume"),
    "train": ("commands.train", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'fieldguide' has no attribute {name!r}")
    import importlib

    module, attribute = _PLACES[name]
    return getattr(importlib.import_module(f"fieldguide.{module}"), attribute)
