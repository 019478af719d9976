"""`fieldguide weights`: pretrained weights in the Hub's cache: list, fetch ahead, lay a file there."""

from pathlib import Path

from safetensors.torch import save

from fieldguide.errors import UsageError
from fieldguide.model import hub
from fieldguide.model.architecture import Architecture
from fieldguide.model.backbone import problem_with_backbone
from fieldguide.model.classifier import make_classifier
from fieldguide.model.pretrained import config_of, silence_of_hub
from fieldguide.model.weights import fill_backbone, read_weights_of_file
from fieldguide.storage import digest


def list_weights() -> list[str]:
    """A line for each network whose weights are cached."""
    found = hub.cached()
    lines = [f"{each.name:<44} {each.bytes / 1e6:8.1f} MB" for each in found]
    return lines or ["no weights are cached; fieldguide weights get NAME fetches some"]


def get_weights(name: str) -> Path:
    """Fetches the weights of a backbone; raises UsageError for an unknown name, or with the fault of the Hub."""
    source = _source_of(name)
    if hub.in_cache(source) is None and (silence := silence_of_hub()):  # a download retries for half a minute
        raise UsageError(f"{name}: {silence}")
    try:
        return hub.fetch(source)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def import_weights(file: str | Path, name: str) -> Path:
    """Lays a file of weights into the cache for a machine without the Hub; raises UsageError if it does not fit."""
    source = _source_of(name)
    model = make_classifier(Architecture(name, "linear", None, 0.0, 2))
    fill_backbone(model, read_weights_of_file(Path(file)), str(file))
    content = save({key: value.contiguous() for key, value in model.backbone.state_dict().items()})
    return hub.put(source, content, digest(content)[:40])


def _source_of(name: str) -> str:
    if problem := problem_with_backbone(name):
        raise UsageError(problem)
    source = config_of(name).get("hf_hub_id")
    if not source:
        raise UsageError(f"{name}: timm has no weights for it on the Hub; add a tag, such as resnet50.a1_in1k")
    return str(source)
