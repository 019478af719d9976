"""timm's networks with pooled features. The only one that knows timm."""

import difflib
from typing import Any

import timm
import torch
from torch import nn

from fieldguide.errors import UsageError

INSTEAD = (
    "pass --weights FILE (a .safetensors or .pth of this network), --weights RUN (an earlier run), "
    "or --weights none to train from scratch"
)


def problem_with_backbone(name: str) -> str | None:
    """Why there is no such backbone, as a sentence with the nearest names; None if there is."""
    if name == "auto":
        return "model.backbone: auto is not chosen here; name a backbone, such as resnet50.a1_in1k"
    if _architecture(name) and (not _tag(name) or _tag(name) in _tags(_architecture(name))):
        return None
    base, tag = name.removeprefix("timm/").partition(".")[::2]
    if tag and timm.is_model(base):
        return f"model.backbone: timm has {base}, but no weights {tag!r}; it has {', '.join(_tags(base)) or 'none'}"
    near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return f"model.backbone: timm has no network {name!r}{hint}"


def make_backbone(name: str) -> nn.Module:
    """A network with random weights from (batch, 3, height, width) to (batch, num_features) pooled features.

    Raises:
        UsageError: timm has no such network, or it gives no pooled features.
    """
    problem = problem_with_backbone(name)
    if problem:
        raise UsageError(problem)
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    except Exception as error:  # timm's networks raise what they like for what they lack
        raise UsageError(f"model.backbone: timm cannot build {name} with pooled features ({error})") from None
    return network


def num_features(network: nn.Module) -> int:
    """Width of the pooled features."""
    return int(getattr(network, "head_hidden_size", None) or network.num_features)  # type: ignore[arg-type]


def pretrained_preprocessing(name: str) -> dict[str, Any]:
    """What the backbone was pretrained with: image_size_px, crop_share, interpolation, mean, std."""
    config = _config(name)
    interpolation = config.get("interpolation", "bilinear")
    return {
        "image_size_px": int(config.get("input_size", (3, 224, 224))[-1]),
        "crop_share": float(config.get("crop_pct") or 0.875),
        "interpolation": interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
        "mean": tuple(config.get("mean", (0.485, 0.456, 0.406))),
        "std": tuple(config.get("std", (0.229, 0.224, 0.225))),
    }


def pretrained_on(name: str) -> str:
    """What the Hub's weights of this name were trained on, by timm's tag: `imagenet-1k`, else the tag itself."""
    tag = str(_config(name).get("tag") or _tag(name))
    steps = [piece for piece in tag.split("_") if piece.startswith("in") and piece[2:3].isdigit()]
    others = {"ssl", "swsl", "wsl", "yfcc", "laion", "openai", "jft", "clip", "dino", "webvid"}
    others |= {"swag", "seer", "m38m", "webli"}  # Instagram, merged sets, the web
    if set(steps) == {"in1k"} and not any(name in tag for name in others):
        return "imagenet-1k"
    return tag or "nothing that timm tells"


def problem_with_hub_weights(name: str) -> str | None:
    """Why pretrained weights cannot be had, as a sentence that says what to pass instead; None if they can.

    Asks the Hub for an answer, unless they are in its cache on this machine: the download itself tries again for a
    minute before it gives up, and that after all photos were read.
    """
    config = _config(name)
    source = config.get("hf_hub_id")
    if not source and not config.get("url"):
        return f"model.weights: timm has no pretrained weights for {name}; {INSTEAD}"
    reason = None if not source or _in_hub_cache(source) else _silence_of_hub()
    return reason and f"model.weights: the Hub's weights of {name} cannot be had ({reason}); {INSTEAD}"


def hub_weights(name: str) -> dict[str, torch.Tensor]:
    """Pretrained weights from the Hub, or from its cache on this machine.

    Raises:
        UsageError: there are none, or the Hub is out of reach; the message says what to pass instead.
    """
    problem = problem_with_hub_weights(name)
    if problem:
        raise UsageError(problem)
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # whatever the network layer raises: the answer for the user is one
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"model.weights: the Hub's weights of {name} cannot be had ({text[:160]}); {INSTEAD}"
        ) from None
    return dict(network.state_dict())


def stages(network: nn.Module) -> list[list[str]]:
    """Parameter names from the stem to the last stage, as timm groups them.

    Raises:
        UsageError: timm does not say how this network is staged.
    """
    if not hasattr(network, "group_matcher"):
        raise UsageError("training.phases: timm does not tell this backbone's stages; use trainable all or head")
    from timm.models import group_parameters

    try:
        matcher: Any = network.group_matcher
        groups: dict[int, list[str]] = group_parameters(network, matcher(coarse=True))
    except Exception as error:  # some of timm's networks refuse coarse groups, each in its own way
        raise UsageError(
            f"training.phases: timm does not tell this backbone's stages ({error}); use trainable all or head"
        ) from None
    found = [groups[key] for key in sorted(groups)]
    vectors = {name for name, parameter in network.named_parameters() if parameter.ndim <= 1}
    while len(found) > 1 and vectors.issuperset(found[-1]):  # a last normalisation alone is no stage
        last = found.pop()
        found[-1] = found[-1] + last
    return found


def _config(name: str) -> dict[str, Any]:
    config: Any = timm.models.get_pretrained_cfg(name.removeprefix("timm/"))
    return dict(config.to_dict()) if config is not None else {}


def _architecture(name: str) -> str:
    base = name.removeprefix("timm/").partition(".")[0]
    return base if timm.is_model(base) else ""


def _tag(name: str) -> str:
    return name.partition(".")[2]


def _tags(architecture: str) -> list[str]:
    known = timm.list_pretrained(f"{architecture}.*")
    return [entry.partition(".")[2] for entry in known if entry.partition(".")[0] == architecture]


def _in_hub_cache(source: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(source, file), str) for file in names)


def _silence_of_hub() -> str | None:
    """Why the Hub is out of reach; None if it answers."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, and they are not in the cache"
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=10).close()
    except urllib.error.HTTPError:
        return None  # it answered
    except (urllib.error.URLError, OSError, ValueError) as error:
        return f"no answer from the Hub: {getattr(error, 'reason', error)}"
    return None


class FeatureMap(nn.Module):
    """The backbone up to its last feature map: images to (batch, num_features, rows, columns)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # Swin and its kin keep channels last; timm says so.
        self.channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) to the feature map, channels first."""
        found: torch.Tensor = self.network.forward_features(images)  # type: ignore[operator]
        return found.permute(0, 3, 1, 2) if self.channels_last else found

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """What the backbone makes of its feature map: (batch, num_features)."""
        found = features.permute(0, 2, 3, 1) if self.channels_last else features
        pooled: torch.Tensor = self.network.forward_head(found)  # type: ignore[operator]
        return pooled


def feature_map(network: nn.Module, image_size_px: int) -> FeatureMap | None:
    """The part of a backbone whose output still lies on a grid, for class-activation maps.

    Args:
        network: of `make_backbone`, in evaluation mode.
        image_size_px: side of its input.

    Returns:
        None where the backbone's last features are tokens (a vision transformer), or timm cannot part it.
    """
    if not (hasattr(network, "forward_features") and hasattr(network, "forward_head")):
        return None
    parted = FeatureMap(network)
    device = next(network.parameters()).device
    with torch.inference_mode():
        images = torch.zeros(1, 3, image_size_px, image_size_px, device=device)
        raw = network.forward_features(images)  # type: ignore[operator]
        if not isinstance(raw, torch.Tensor) or raw.ndim != 4:
            return None
        return parted if parted.pooled(parted(images)).shape == network(images).shape else None
