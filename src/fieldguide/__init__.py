"""Turn a folder of photos into an image classifier you can trust.

    import fieldguide

    run = fieldguide.train("photos/", recipe="resnet34-adam", output="runs/a")
    fieldguide.load("runs/a").predict(["x.jpg"])

The names below are imported when they are first used, so that the command line stays quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fieldguide.commands.check import check
    from fieldguide.commands.compare import compare
    from fieldguide.commands.evaluate import Evaluation, evaluate
    from fieldguide.commands.experiment import Experiment, experiment
    from fieldguide.commands.export import Export, export
    from fieldguide.commands.import_checkpoint import Imported, import_checkpoint
    from fieldguide.commands.predict import Predicted, predict
    from fieldguide.commands.resume import resume
    from fieldguide.commands.train import train
    from fieldguide.commands.trial.carry_out import Run
    from fieldguide.data.look.look_over import CheckReport
    from fieldguide.deploy.answers import Prediction, Status
    from fieldguide.deploy.predictor import Predictor
    from fieldguide.deploy.predictor import load_predictor as load
    from fieldguide.errors import FieldguideError, MachineError, PhotosError, ProofError, TrainingError, UsageError
    from fieldguide.recipe.load import read_recipe
    from fieldguide.recipe.schema import Recipe
    from fieldguide.training.observers import Callback

    __version__: str

__all__ = [
    "Callback",
    "CheckReport",
    "Evaluation",
    "Experiment",
    "Export",
    "FieldguideError",
    "Imported",
    "MachineError",
    "PhotosError",
    "Predicted",
    "Prediction",
    "Predictor",
    "ProofError",
    "Recipe",
    "Run",
    "Status",
    "TrainingError",
    "UsageError",
    "__version__",
    "check",
    "compare",
    "evaluate",
    "experiment",
    "export",
    "import_checkpoint",
    "load",
    "predict",
    "read_recipe",
    "resume",
    "train",
]

# where a name is; a command's own name is in the file of that name, a mistake in errors
_MODULES = {
    "Callback": "training.observers",
    "CheckReport": "data.look.look_over",
    "Evaluation": "commands.evaluate",
    "Experiment": "commands.experiment",
    "Export": "commands.export",
    "Imported": "commands.import_checkpoint",
    "Predicted": "commands.predict",
    "Prediction": "deploy.answers",
    "Predictor": "deploy.predictor",
    "Recipe": "recipe.schema",
    "Run": "commands.trial.carry_out",
    "Status": "deploy.answers",
    "load": "deploy.predictor",
    "read_recipe": "recipe.load",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fieldguide' has no attribute {name!r}")
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("fieldguide")
    place = _MODULES.get(name) or ("errors" if name.endswith("Error") else f"commands.{name}")
    return getattr(importlib.import_module(f"fieldguide.{place}"), "load_predictor" if name == "load" else name)


def __dir__() -> list[str]:
    return sorted(__all__)
