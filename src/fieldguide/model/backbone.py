"""timm's networks behind the interface of `features.Backbone`; beside `pretrained.py` the only file that knows timm."""

import contextlib
import copy
import difflib
import sys
import warnings
from typing import Any

import timm
import torch
from torch import nn

from fieldguide.errors import UsageError
from fieldguide.model.features import Backbone
from fieldguide.model.pretrained import config_of, tag_of, tags_of
from fieldguide.model.pretrained import pretrained_on as pretrained_on
from fieldguide.model.pretrained import pretrained_preprocessing as pretrained_preprocessing

# timm's options: of transformers, of Swin
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})
COMMON_MULTIPLE_PX = 32  # of the sizes that most networks take
JOINED_STAGES = 3  # the last ones; EXPERIMENTS.md says how chosen
MOST_TRIED = 4  # sizes on each side of one that a network does not take


def problem_with_backbone(name: str) -> str | None:
    """Why this name is not a backbone, with the nearest names; None if it is one."""
    if name == "auto":
        return "model.backbone: auto is not available here; name a backbone, such as resnet50.a1_in1k"
    if _architecture(name) and (not tag_of(name) or tag_of(name) in tags_of(_architecture(name))):
        return None
    base, tag = name.removeprefix("timm/").partition(".")[::2]
    if tag and timm.is_model(base):
        return f"model.backbone: timm has {base}, but no weights {tag!r}; it has {', '.join(tags_of(base)) or 'none'}"
    near = difflib.get_close_matches(base, timm.list_models(), n=3, cutoff=0.5)
    hint = f" (did you mean {', '.join(near)}?)" if near else ""
    return f"model.backbone: timm has no network {name!r}{hint}"


def make_backbone(name: str, image_size_px: int | None = None) -> Backbone:
    """A network with random weights, drawn from torch's generator.

    `image_size_px` matters to networks that are built for one size alone; None: that of their pretraining.

    Raises:
        UsageError: timm has no such network, or it gives no pooled features.
    """
    problem = problem_with_backbone(name)
    if problem:
        raise UsageError(problem)
    try:
        return TimmBackbone(name, image_size_px)
    except Exception as error:  # timm's networks raise errors of any kind
        raise UsageError(f"model.backbone: timm cannot build {name} with pooled features ({error})") from None


def converted(network: nn.Module, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights by timm's names and in the network's shapes, as far as timm can convert them.

    It renames those of an original publication, and resizes positions of another image size.
    """
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return found
    with contextlib.suppress(Exception), warnings.catch_warnings():  # it was written for other files than this one
        warnings.simplefilter("ignore")  # of torch, about timm's code
        made = convert(dict(found), network)
        if isinstance(made, dict) and all(isinstance(value, torch.Tensor) for value in made.values()):
            return made
    return found


def _architecture(name: str) -> str:
    base = name.removeprefix("timm/").partition(".")[0]
    return base if timm.is_model(base) else ""


def _create(name: str, image_size_px: int | None) -> tuple[nn.Module, int | None]:
    """A network without a classifier, and the only size that it takes; None: several.

    Other sizes change no weight's shape if the network takes several. Where it takes one, they may: of positions.
    """
    if not config_of(name).get("fixed_input_size"):
        return timm.create_model(name, pretrained=False, num_classes=0), None
    for options in ANY_SIZE:
        with contextlib.suppress(TypeError):  # this network has no such option; raised before a weight is drawn
            return timm.create_model(name, pretrained=False, num_classes=0, **options), None
    own = pretrained_preprocessing(name)["image_size_px"]
    if image_size_px in (None, own):
        return timm.create_model(name, pretrained=False, num_classes=0), own
    if _takes(_on_meta(name), image_size_px):
        return timm.create_model(name, pretrained=False, num_classes=0), None
    if _takes_when_built(name, image_size_px):
        return timm.create_model(name, pretrained=False, num_classes=0, img_size=image_size_px), image_size_px
    return timm.create_model(name, pretrained=False, num_classes=0), own


def _on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, pretrained=False, num_classes=0, **options).eval()


def _takes(on_meta: nn.Module, image_size_px: int) -> bool:
    try:
        found = on_meta(torch.empty(2, 3, image_size_px, image_size_px, device="meta"))
    except Exception:  # each network complains in its own way
        return False
    return isinstance(found, torch.Tensor) and found.ndim == 2


def _takes_when_built(name: str, image_size_px: int) -> bool:
    """Whether timm builds the network for this size."""
    try:
        made = _on_meta(name, img_size=image_size_px)
    except Exception:  # no such option, or no such size
        return False
    return _takes(made, image_size_px)


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

    def __init__(self, name: str, image_size_px: int | None = None) -> None:
        self.network, self.built_for_px = _create(name, image_size_px)
        self._name, self._asked_px = name, image_size_px
        width: Any = getattr(self.network, "head_hidden_size", None) or self.network.num_features
        self.num_features = int(width)
        self.preprocessing = pretrained_preprocessing(name)
        # Swin and its kin keep channels last; timm says so.
        self._is_channels_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        self._taken = _stages_taken(self.network)
        if self._taken:
            self.stage_widths = (*self._taken.values(), self.num_features)
            self.map_widths = (*self._taken.values(), int(getattr(self.network, "num_features", 0)))

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
        """Multiples of a transformer's patch or of 32 that the network takes; for one of a single size, that one.

        If it was to be built for this size, those that it can be built for.
        """
        own = int(self.preprocessing["image_size_px"])
        patch = getattr(getattr(self.network, "patch_embed", None), "patch_size", None)
        multiple = int(patch[0]) if isinstance(patch, tuple) else COMMON_MULTIPLE_PX
        below = list(range(image_size_px // multiple * multiple, 0, -multiple))[:MOST_TRIED]
        above = [(image_size_px // multiple + 1 + step) * multiple for step in range(MOST_TRIED)]
        takes = self._is_taken if self.built_for_px is None else self._can_be_built
        if self.built_for_px is not None and self._asked_px != image_size_px:
            return (self.built_for_px,)
        found = {next((size for size in sizes if takes(size)), own) for sizes in (below or [multiple], above)}
        return tuple(sorted(found - {image_size_px})) or (own,)

    def _is_taken(self, image_size_px: int) -> bool:
        return _takes(copy.deepcopy(self.network).to("meta").eval(), image_size_px)

    def _can_be_built(self, image_size_px: int) -> bool:
        return _takes_when_built(self._name, image_size_px)

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
