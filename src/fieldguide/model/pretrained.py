"""What timm knows of pretrained weights: preprocessing, data, licence, and where the Hub keeps them."""

from typing import Any

import timm
import torch

from fieldguide.errors import UsageError
from fieldguide.model import hub

INSTEAD = (
    "pass --weights FILE (a .safetensors or .pth of this network), --weights FOLDER (such files, with model.backbone "
    "auto), --weights RUN (an earlier run), or --weights none to train from scratch"
)


def pretrained_preprocessing(name: str) -> dict[str, Any]:
    """What the backbone was pretrained with: image_size_px, crop_share, interpolation, mean, std."""
    config = config_of(name)
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
    tag = str(config_of(name).get("tag") or tag_of(name))
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
    config = config_of(name)
    source = config.get("hf_hub_id")
    if not source and not config.get("url"):
        return f"model.weights: timm has no pretrained weights for {name}; {INSTEAD}"
    reason = None if not source or _in_hub_cache(source) else silence_of_hub()
    return reason and f"model.weights: no weights of {name} from the Hub ({reason}); {INSTEAD}"


def hub_weights(name: str) -> dict[str, torch.Tensor]:
    """Pretrained weights from the Hub or its cache.

    Raises:
        UsageError: there are none, or the Hub does not answer.
    """
    problem = problem_with_hub_weights(name)
    if problem:
        raise UsageError(problem)
    source = config_of(name).get("hf_hub_id")
    if source and not _in_hub_cache(source):
        try:
            hub.fetch(source)
        except UsageError as error:
            raise UsageError(f"model.weights: no weights of {name} from the Hub ({error}); {INSTEAD}") from None
    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # whatever the network layer raises, the answer is the same
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"model.weights: no weights of {name} from the Hub ({text[:160]}); {INSTEAD}") from None
    return dict(network.state_dict())


def licence(name: str) -> str | None:
    """The licence of the Hub's weights as timm names it, such as `apache-2.0`; None if it names none."""
    found = config_of(name).get("license")
    return None if found in (None, "unknown") else str(found)


def config_of(name: str) -> dict[str, Any]:
    """timm's pretrained configuration; empty if there is none."""
    config: Any = timm.models.get_pretrained_cfg(name.removeprefix("timm/"))
    return dict(config.to_dict()) if config is not None else {}


def tag_of(name: str) -> str:
    """The name of the weights behind the network's name; empty if it has none."""
    return name.partition(".")[2]


def architectures() -> list[str]:
    """All names of timm's networks, without tags."""
    return list(timm.list_models())


def tags_of(architecture: str) -> list[str]:
    """The names of a network's weights; empty if it has none."""
    known = timm.list_pretrained(f"{architecture}.*")
    return [entry.partition(".")[2] for entry in known if entry.partition(".")[0] == architecture]


def is_cached(name: str) -> bool:
    """Whether the Hub's weights were fetched before."""
    source = config_of(name).get("hf_hub_id")
    return bool(source) and _in_hub_cache(str(source))


def _in_hub_cache(source: str) -> bool:
    return hub.in_cache(source) is not None


def silence_of_hub() -> str | None:
    """Why the Hub does not answer; None if it does."""
    import urllib.error
    import urllib.request

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and they are not in the cache"
    proxy = urllib.request.getproxies().get(constants.ENDPOINT.partition(":")[0])
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=10).close()
    except urllib.error.HTTPError as error:
        return (
            f"the proxy {proxy} refuses access (407); put name and password into its address"
            if (error.code == 407 and proxy)
            else None
        )  # it answered
    except (urllib.error.URLError, OSError, ValueError) as error:
        through = f", through the proxy {proxy}; check HTTPS_PROXY and HTTP_PROXY" if proxy else ""
        return f"no answer from the Hub: {getattr(error, 'reason', error)}{through}"
    return None
