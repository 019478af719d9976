"""timm's networks behind the interface of `features.Backbone`. The only file that knows timm."""

import contextlib
import difflib
from typing import Any

import timm
import torch
from torch import nn

from fieldguide.errors import UsageError
from fieldguide.model.features import Backbone

INSTEAD = (
    "pass --weights FILE (a .safetensors or .pth of this network), --weights RUN (an earlier run), "
    "or --weights none to train from scratch"
)
# timm's options: of transformers, of Swin
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})
COMMON_MULTIPLE_PX = 32  # of the sizes that most networks take
JOINED_STAGES = 3  # the last ones; EXPERIMENTS.md says how chosen


def problem_with_backbone(name: str) -> str | None:
    """Why this name is not a backbone, with the nearest names; None if it is one."""
    if name == "auto":
        return "model.backbone: auto is not available here; name a backbone, such as resnet50.a1_in1k"
    if _architecture(name) and (not _tag(name) or _tag(name) in _tags(_architecture(name))):
        return None
    base, tag = name.removeprefix("timm/").partition(".")[::2]
    if tag and timm.is_model(base):
        return f"model.backbone: timm has {base}, but no weights {tag!r}; it has {', '.join(_tags(base)) or 'none'}"
    near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return f"model.backbone: timm has no network {name!r}{hint}"


def make_backbone(name: str) -> Backbone:
    """A network with random weights, drawn from torch's generator.

    Raises:
        UsageError: timm has no such network, or it gives no pooled features.
    """
    problem = problem_with_backbone(name)
    if problem:
        raise UsageError(problem)
    try:
        return TimmBackbone(name)
    except Exception as error:  # timm's networks raise errors of any kind
        raise UsageError(f"model.backbone: timm cannot build {name} with pooled features ({error})") from None


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
    """What the Hub's weights were trained on: `imagenet-1k`, else timm's tag."""
    tag = str(_config(name).get("tag") or _tag(name))
    steps = [piece for piece in tag.split("_") if piece.startswith("in") and piece[2:3].isdigit()]
    others = {"ssl", "swsl", "wsl", "yfcc", "laion", "openai", "jft", "clip", "dino", "webvid"}
    others |= {"swag", "seer", "m38m", "webli"}  # Instagram, merged sets, the web
    if set(steps) == {"in1k"} and not any(name in tag for name in others):
        return "imagenet-1k"
    return tag or "unknown"


def problem_with_hub_weights(name: str) -> str | None:
    """Why there are no pretrained weights, and what to pass instead; None if there are.

    Asks the Hub unless they are in the cache: a download retries for a minute, and starts after all photos are read.
    """
    config = _config(name)
    source = config.get("hf_hub_id")
    if not source and not config.get("url"):
        return f"model.weights: timm has no pretrained weights for {name}; {INSTEAD}"
    reason = None if not source or _in_hub_cache(source) else _silence_of_hub()
    return reason and f"model.weights: no weights of {name} from the Hub ({reason}); {INSTEAD}"


def hub_weights(name: str) -> dict[str, torch.Tensor]:
    """Pretrained weights from the Hub or its cache.

    Raises:
        UsageError: there are none, or the Hub does not answer.
    """
    problem = problem_with_hub_weights(name)
    if problem:
        raise UsageError(problem)
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # whatever the network layer raises, the answer is the same
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"model.weights: no weights of {name} from the Hub ({text[:160]}); {INSTEAD}") from None
    return dict(network.state_dict())


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
    """Why the Hub does not answer; None if it does."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and they are not in the cache"
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=10).close()
    except urllib.error.HTTPError:
        return None  # it answered
    except (urllib.error.URLError, OSError, ValueError) as error:
        return f"no answer from the Hub: {getattr(error, 'reason', error)}"
    return None


def _create(name: str) -> tuple[nn.Module, bool]:
    """A network without a classifier, and whether it takes images of one size only; sizes change no weight's shape."""
    is_fixed = bool(_config(name).get("fixed_input_size"))
    for options in ANY_SIZE if is_fixed else ():
        with contextlib.suppress(TypeError):  # this network has no such option; raised before a weight is drawn
            return timm.create_model(name, pretrained=False, num_classes=0, **options), False
    return timm.create_model(name, pretrained=False, num_classes=0), is_fixed


def _grouped(network: Any) -> list[list[str]]:
    """Parameter names as timm groups them; empty where it does not."""
    from timm.models import group_parameters

    try:
        groups: dict[int, list[str]] = group_parameters(network, network.group_matcher(coarse=True))
    except Exception:  # some networks have no groups, others refuse coarse ones, each in its own way
        return []
    return [groups[key] for key in sorted(groups)]


def _by_feature_info(network: Any) -> list[list[str]]:
    """Parameter names up to the end of each module whose features timm can extract; empty where it names none."""
    names, found = [name for name, _ in network.named_parameters()], list[list[str]]()
    for info in getattr(network, "feature_info", ()):
        ends = [place for place, name in enumerate(names) if name.startswith(f"{info['module']}.")]
        if ends:
            found.append(names[: ends[-1] + 1])
            names = names[ends[-1] + 1 :]
    if found:
        found[-1] += names
    return found


def _stages_taken(network: Any) -> dict[int, int]:
    """Places and channels, in timm's list of feature maps, of the stages before the last one that can be joined to it.

    Empty where timm cannot take the maps on the way, or where they do not shrink: then they are blocks and no stages.
    """
    infos = list(getattr(network, "feature_info", ()))
    steps = [info.get("reduction") for info in infos]
    if len(infos) < JOINED_STAGES or not hasattr(network, "forward_intermediates") or len(set(steps)) < len(steps):
        return {}
    places = range(len(infos) - JOINED_STAGES, len(infos) - 1)
    return {place: int(infos[place]["num_chs"]) for place in places}


class TimmBackbone(Backbone):
    """A network of timm."""

    def __init__(self, name: str) -> None:
        self.network, self._is_fixed = _create(name)
        width: Any = getattr(self.network, "head_hidden_size", None) or self.network.num_features
        self.num_features = int(width)
        self.preprocessing = pretrained_preprocessing(name)
        # Swin and its kin keep channels last; timm says so.
        self._is_channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        self._taken = _stages_taken(self.network)
        self.stage_widths = (*self._taken.values(), self.num_features) if self._taken else ()

    def stages(self) -> list[list[str]]:
        """As timm groups the parameters; where it does not, by the modules that it takes features from."""
        found = _grouped(self.network) or _by_feature_info(self.network)
        if not found:
            raise UsageError("training.phases: timm does not list this backbone's stages; use trainable all or head")
        vectors = {name for name, parameter in self.network.named_parameters() if parameter.ndim <= 1}
        while len(found) > 1 and vectors.issuperset(found[-1]):  # a last normalisation alone is no stage
            last = found.pop()
            found[-1] = found[-1] + last
        return found

    def sizes_near(self, image_size_px: int) -> tuple[int, ...]:
        """Multiples of a transformer's patch; the size of the pretraining alone where timm builds for no other."""
        if self._is_fixed:
            return (self.preprocessing["image_size_px"],)
        patch = getattr(getattr(self.network, "patch_embed", None), "patch_size", None)
        multiple = int(patch[0]) if isinstance(patch, tuple) else COMMON_MULTIPLE_PX
        below = image_size_px // multiple * multiple
        return tuple(sorted({max(below, multiple), below + multiple}))

    def cells(self, image_size_px: int) -> tuple[int, int] | None:
        """None also where timm cannot part the network behind its feature map."""
        if not (hasattr(self.network, "forward_features") and hasattr(self.network, "forward_head")):
            return None
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            images = torch.zeros(1, 3, image_size_px, image_size_px, device=device)
            raw = self.network.forward_features(images)  # type: ignore[operator]
            if not isinstance(raw, torch.Tensor) or raw.ndim != 4:
                return None
            found = self.feature_map(images)
            is_whole = self.pooled(found).shape == self.network(images).shape
            return (found.shape[2], found.shape[3]) if is_whole else None

    def feature_map(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) to (batch, num_features, rows, columns)."""
        found: torch.Tensor = self.network.forward_features(images)  # type: ignore[operator]
        return found.permute(0, 3, 1, 2) if self._is_channels_last else found

    def stage_maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The maps of the stages before the last one, then the network's own last feature map."""
        last, earlier = self.network.forward_intermediates(images, indices=list(self._taken))  # type: ignore[operator]
        return [*earlier, last.permute(0, 3, 1, 2) if self._is_channels_last else last]

    def pooled(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, num_features, rows, columns) to (batch, num_features)."""
        found = features.permute(0, 2, 3, 1) if self._is_channels_last else features
        pooled: torch.Tensor = self.network.forward_head(found)  # type: ignore[operator]
        return pooled

    def after_norm(self, layer: nn.BatchNorm2d) -> nn.Module:
        """timm's `BatchNormAct2d` ends in a dropout and an activation of its own."""
        found = getattr(layer, "drop", None), getattr(layer, "act", None)
        parts = [part for part in found if isinstance(part, nn.Module)]
        return nn.Sequential(*parts) if parts else nn.Identity()
