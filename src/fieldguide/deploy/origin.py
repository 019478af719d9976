"""Where a predictor's network comes from: loaded from its bundle, and loaded again in a process that it was sent to."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fieldguide.data.read.preprocess import Preprocessing
from fieldguide.deploy.choice import Kept, Speeds, key
from fieldguide.deploy.engines import Engine, Mirrored, Plain
from fieldguide.deploy.forked import settle_after_fork
from fieldguide.deploy.names import AS_TRAINED
from fieldguide.deploy.openvino_engine import Int8File
from fieldguide.deploy.serving import Serving, demand_engine
from fieldguide.errors import UsageError
from fieldguide.model.bundle import load_classifier
from fieldguide.model.classifier import Classifier, UpToHead
from fieldguide.model.description import Description, find_bundle
from fieldguide.world import Device, choose_device

ENGINE_BATCH = {"cpu": 32, "cuda": 128, "mps": 32}  # on a CPU, memory for 64 at 224 px goes back to the system


@dataclass(frozen=True)
class Computing:
    """What computes; it cannot be pickled.

    `engine` gives (batch, num_classes) logits; `backbone`, if there is one, (batch, width) features.
    """

    engine: Engine
    backbone: Engine | None = None


@dataclass(frozen=True)
class Origin:
    """A bundle as it was when it was loaded, with device, engine and flips as requested; plain data."""

    folder: Path
    device: str
    engine: str
    description: Description
    flips: str = AS_TRAINED
    int8_file: Int8File | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: Device,
        engine: str,
        flips: str = AS_TRAINED,
        int8_file: Int8File | None = None,
    ) -> tuple["Origin", Computing]:
        """Loads a run's or a bundle's model.

        Args:
            path, device, engine: as for `load_predictor`.
            flips: `as-trained`: as the bundle asks for; `none`: no mirror images.
            int8_file: of the same bundle, which has its mirror images inside.

        Raises:
            UsageError: no bundle there, a damaged one, no such device, or no such engine.
        """
        chosen = choose_device(device)
        demand_engine(engine, chosen, int8_file)
        settle_after_fork(chosen)
        folder = find_bundle(Path(path)).absolute()
        classifier, description = load_classifier(folder)
        made = cls(folder, str(device), engine, description, flips, int8_file)
        return made, made._computing(classifier)

    def load_again(self) -> Computing:
        """Loads the same model once more.

        Raises:
            UsageError: the bundle is gone, or another one by now.
        """
        settle_after_fork(choose_device(self.device))
        classifier, found = load_classifier(find_bundle(self.folder))
        if found != self.description:
            raise UsageError(f"{self.folder}: the bundle changed after the predictor was pickled; load it again")
        return self._computing(classifier)

    @property
    def preprocessing(self) -> Preprocessing:
        """The bundle's, with the flips that were requested."""
        own = Preprocessing.from_dict(self.description.preprocessing)
        return replace(own, flips="none") if self.flips == "none" else own

    def _computing(self, classifier: Classifier) -> Computing:
        device = choose_device(self.device)
        preprocessing = self.preprocessing
        side, batch = preprocessing.image_size_px, ENGINE_BATCH[device.type]
        is_mirrored = preprocessing.flips == "horizontal"
        about = key(self.description.architecture, side, batch, device, is_mirrored=is_mirrored)
        speeds = Speeds(about, Kept.of_user().folder)
        more: Any = {"is_mirrored": is_mirrored, "int8_file": self.int8_file}
        serving = Serving(classifier, device, self.engine, side, batch, speeds, **more)
        backbone = Plain(UpToHead(classifier), device)
        return Computing(serving, Mirrored(backbone) if is_mirrored else backbone)
