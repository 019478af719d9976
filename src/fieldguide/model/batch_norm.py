"""What a backbone's batch normalisation does while it trains: train, frozen or folded; and back to as it was built."""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from fieldguide.errors import UsageError
from fieldguide.model.classifier import Classifier
from fieldguide.model.synced_batch_norm import unsynchronize

SMALLEST_SCALE = 1e-6  # a channel that is multiplied by less cannot be divided by it again
TOLERANCE = 1e-3  # of the largest feature: fp32's rounding over a hundred layers, far below what a wrong fold does


class FrozenBatchNorm(nn.Module):
    """Batch normalisation by its running statistics, in training as in evaluation; scale and shift learn.

    Its state has the names of the `nn.BatchNorm2d` that it stands in for.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, before: nn.BatchNorm2d, after: nn.Module) -> None:
        super().__init__()
        self.before = (before,)  # in a tuple: it is kept, and is no part of this module
        self.weight, self.bias = before.weight, before.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(before, name))
        self.eps = before.eps
        self.after = after

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to the same shape."""
        normalized = functional.batch_norm(
            features, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )
        found: torch.Tensor = self.after(normalized)
        return found


class FoldedBatchNorm(nn.Module):
    """What is left of a batch normalisation whose scale and shift went into the convolution before it.

    Its buffers, named as in `nn.BatchNorm2d`, hold what it had when it was folded: that is what unfolds it.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, before: nn.BatchNorm2d, convolution: nn.Conv2d, after: nn.Module) -> None:
        super().__init__()
        self.before, self.convolution = (before,), (convolution,)  # in tuples: kept, and no parts of this module
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(before, name).detach())
        self.eps = before.eps
        self.after = after

    def scale(self) -> torch.Tensor:
        """(channels,) what each of the convolution's filters was multiplied by."""
        return self.weight / torch.sqrt(self.running_var + self.eps)

    @torch.no_grad()
    def unfolded(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The convolution's filters without the scale, and the batch normalisation's shift and scale.

        A channel whose scale is next to 0 gets the scale 1 instead, for nothing can be divided by it.
        """
        conv = self.convolution[0]
        assert conv.bias is not None
        scale, deviation = self.scale(), torch.sqrt(self.running_var + self.eps)
        is_gone = scale.abs() < SMALLEST_SCALE
        scale = torch.where(is_gone, torch.ones_like(scale), scale)
        weight = torch.where(is_gone, deviation, self.weight)
        return conv.weight / scale.view(-1, 1, 1, 1), conv.bias + self.running_mean * scale, weight

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) as they came, through the activation that belongs to some."""
        found: torch.Tensor = self.after(features)
        return found


def set_batch_norm(classifier: Classifier, mode: str, image_size_px: int) -> None:
    """Makes the backbone's batch normalisation do what a phase asks for; the head's always trains.

    Args:
        classifier: changed in place; in any of the three modes, which is undone first.
        mode: `train`: statistics of each batch, running averages kept (Ioffe and Szegedy 2015, algorithm 1).
            `frozen`: the running statistics normalise and stay as they are; scale and shift learn.
            `folded`: as frozen, with statistics, scale and shift merged into the convolution before it (Jacob et al.
            2018, arXiv 1712.05877, section 3.2): what learns is that convolution's filters and bias. A normalisation
            that follows no plain convolution without bias is frozen instead.
        image_size_px: of the network's input, to find out what follows what.

    Raises:
        UsageError: folding changes what this backbone computes.
    """
    unfold(classifier)
    if mode == "train":
        return
    assert mode in ("frozen", "folded"), mode
    pairs = _pairs(classifier.backbone, image_size_px) if mode == "folded" else {}
    before = _probe(classifier.backbone, image_size_px) if pairs else None
    for name, layer in list(classifier.backbone.named_modules()):
        if isinstance(layer, nn.BatchNorm2d) and layer.affine and layer.track_running_stats:
            after = classifier.interface.after_norm(layer)
            made = _fold(pairs[layer], layer, after) if layer in pairs else FrozenBatchNorm(layer, after)
            _replace(classifier.backbone, name, made)
    if before is not None:
        difference = (_probe(classifier.backbone, image_size_px) - before).abs().max()
        if not difference <= TOLERANCE * before.abs().max():
            unfold(classifier)
            raise UsageError(
                "training.phases: batch_norm cannot be folded in this backbone (its layers do not each follow one "
                "convolution); use frozen or train"
            )


def unfold(classifier: Classifier) -> None:
    """Puts the batch normalisation back as the network was built, with what was learned since.

    Filters are divided by what they were multiplied by, so the running statistics fit them as before.
    """
    unsynchronize(classifier)
    for name, layer in list(classifier.backbone.named_modules()):
        if isinstance(layer, FoldedBatchNorm):
            _unfold(layer)
        if isinstance(layer, FoldedBatchNorm | FrozenBatchNorm):
            _replace(classifier.backbone, name, layer.before[0])


def as_built(classifier: Classifier) -> dict[str, torch.Tensor]:
    """The weights by the names of the network as it was built, copied to the CPU; folded ones unfolded on the way."""
    found = {name: value.detach().to("cpu", copy=True) for name, value in classifier.state_dict().items()}
    names = {layer: name for name, layer in classifier.named_modules()}
    for layer, name in names.items():
        if isinstance(layer, FoldedBatchNorm):
            conv = names[layer.convolution[0]]
            own = (f"{conv}.weight", f"{name}.bias", f"{name}.weight")
            for key, value in zip(own, layer.unfolded(), strict=True):
                found[key] = value.to("cpu", copy=True)
            del found[f"{conv}.bias"]
    return found


def load_as_built(classifier: Classifier, weights: Mapping[str, torch.Tensor]) -> None:
    """Loads weights of `as_built`; the batch normalisation is then in mode `train`."""
    unfold(classifier)
    classifier.load_state_dict(dict(weights))


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)


def _probe(network: nn.Module, image_size_px: int) -> torch.Tensor:
    """Features of noise in evaluation mode; no random number of the training's is drawn."""
    parameter = next(network.parameters())
    noise = torch.randn(1, 3, image_size_px, image_size_px, generator=torch.Generator().manual_seed(0))
    was_training = {layer: layer.training for layer in network.modules()}
    network.eval()
    # a GPU's short TF32 products would differ by more than a right fold does
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
        features: torch.Tensor = network(noise.to(parameter.device, parameter.dtype))
    for layer, mode in was_training.items():
        layer.training = mode
    return features


def _pairs(network: nn.Module, image_size_px: int) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """Each batch normalisation whose input is a convolution's output, by sending one image through."""
    made_by: dict[int, tuple[torch.Tensor, nn.Conv2d]] = {}
    calls: dict[nn.Module, int] = {}
    found: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def after_convolution(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        calls[layer] = calls.get(layer, 0) + 1
        made_by[id(output)] = output, layer  # the tensor is kept, so that no other takes its id

    def before_norm(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        calls[layer] = calls.get(layer, 0) + 1
        if id(inputs[0]) in made_by:
            found[layer] = made_by[id(inputs[0])][1]

    hooks = []
    for layer in network.modules():
        if type(layer) is nn.Conv2d and layer.bias is None:
            hooks.append(layer.register_forward_hook(after_convolution))
        elif isinstance(layer, nn.BatchNorm2d):
            hooks.append(layer.register_forward_pre_hook(before_norm))
    try:
        _probe(network, image_size_px)
    finally:
        for hook in hooks:
            hook.remove()
    return {norm: conv for norm, conv in found.items() if calls[norm] == 1 and calls[conv] == 1}


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d, after: nn.Module) -> FoldedBatchNorm:
    folded = FoldedBatchNorm(norm, conv, after)
    scale = folded.scale()
    conv.weight.mul_(scale.view(-1, 1, 1, 1))
    conv.bias = nn.Parameter(folded.bias - folded.running_mean * scale, requires_grad=conv.weight.requires_grad)
    return folded


@torch.no_grad()
def _unfold(layer: FoldedBatchNorm) -> None:
    weight, shift, scale = layer.unfolded()
    conv, norm = layer.convolution[0], layer.before[0]
    conv.weight.copy_(weight)
    conv.bias = None
    norm.bias.copy_(shift)
    norm.weight.copy_(scale)
