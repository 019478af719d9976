"""Batch normalisation by the statistics of all processes' photos, on any device; torch's own needs GPUs."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fieldguide.errors import UsageError
from fieldguide.model.classifier import Classifier

Every = Callable[[torch.Tensor], torch.Tensor]  # each process's tensor by its rank: (processes, *shape)
Kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


class SyncedBatchNorm(nn.Module):
    """In training as `before` would be if one process had all photos; in evaluation as `before`.

    A process without a photo takes part too. Its state has the names of the layer that it stands in for.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def __init__(self, before: Kinds, after: nn.Module, every: Every) -> None:
        super().__init__()
        self.before = (before,)  # in a tuple: it is kept, and is no part of this module
        self.weight, self.bias = before.weight, before.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(before, name))
        self.eps, self.momentum = before.eps, before.momentum
        self.after, self.every = after, every

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, channels, ...) to the same shape."""
        if not self.training:
            mean, var = self.running_mean, self.running_var
            normalized = functional.batch_norm(features, mean, var, self.weight, self.bias, False, 0.0, self.eps)
        else:
            mean, var, count = self._statistics(features)
            normalized = _Normalized.apply(features, self.weight, self.bias, mean, var, count, self.eps, self.every)
        found: torch.Tensor = self.after(normalized)
        return found

    @torch.no_grad()
    def _statistics(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean and variance of all processes' features, and how many values a channel has in all.

        Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
        """
        channels = len(self.running_mean)
        own = torch.zeros(1 + 2 * channels, device=features.device)
        if features.numel():
            mean, var = _mean_and_variance(features)
            own = torch.cat([torch.full((1,), features.numel() / channels, device=features.device), mean, var])
        counts, means, variances = self.every(own).tensor_split([1, 1 + channels], dim=1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        var = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(var * count / (count - 1).clamp(min=1), share)
        return mean, var, count


class _Normalized(torch.autograd.Function):
    """(features - mean) / deviation * weight + bias, where mean and deviation depend on all processes' features.

    Backward as Ioffe and Szegedy 2015, section 3, with sums over all processes. The gradients of weight and bias are
    those of this process's photos: a step adds them up.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        mean: torch.Tensor,
        var: torch.Tensor,
        count: torch.Tensor,
        eps: float,
        every: Every,
    ) -> torch.Tensor:
        ctx.save_for_backward(features, weight, mean, var, count)
        ctx.every, ctx.eps = every, eps
        if not features.numel():
            return features.clone()
        return functional.batch_norm(features, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        features, weight, mean, var, count = ctx.saved_tensors
        gradient, scale = gradients[0], torch.rsqrt(var + ctx.eps)
        of_weight, of_bias = _sums(features, gradient, mean, var, ctx.eps)
        all_weight, all_bias = (ctx.every(torch.cat([of_weight, of_bias])).sum(0) / count).chunk(2)
        # (gradient - all_bias - normalized * all_weight) * weight * scale, in few passes over memory
        factor = weight * scale
        of_value, shift = -factor * scale * all_weight, -factor * all_bias
        if _is_mixed(features):
            of_features = _scaled(gradient, torch.zeros_like(mean), factor, shift)
            of_features += _scaled(features, mean, of_value, torch.zeros_like(mean))
        else:
            shape = (-1, *(features.ndim - 2) * [1])
            inner = torch.addcmul(shift.view(shape), gradient.float(), factor.view(shape))
            centred = features.float() - mean.view(shape)  # first: a large mean would take the digits of a deviation
            of_features = inner.addcmul_(centred, of_value.view(shape)).to(features.dtype)
        return of_features, of_weight, of_bias, None, None, None, None, None


def _mean_and_variance(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(channels,) float32 each; the variance divides by the number of values."""
    if features.device.type == "cpu":  # many times as fast as var_mean
        zero = torch.zeros(features.shape[1])  # its type is that of the result
        features = features if _is_mixed(features) else features.float()
        found = torch.ops.aten.batch_norm_update_stats(features, zero, zero.clone(), 0.0)
        return found[0], found[1]
    var, mean = torch.var_mean(features.float(), _but_channels(features), correction=0)
    return mean, var


def _sums(
    features: torch.Tensor, gradient: torch.Tensor, mean: torch.Tensor, var: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(channels,) float32 each: the sums of gradient * normalized and of gradient over this process's features."""
    if not _is_mixed(features):
        features, gradient = features.float(), gradient.float()
    if not features.numel():
        return torch.zeros_like(mean), torch.zeros_like(mean)
    if features.device.type == "cpu":  # one pass
        one = torch.ones_like(mean)
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, features, one, mean, var, None, None, False, eps, [False, True, True]
        )
        return of_weight, of_bias
    shape, rest = (-1, *(features.ndim - 2) * [1]), _but_channels(features)
    normalized = (features - mean.view(shape)) * torch.rsqrt(var + eps).view(shape)
    return (gradient * normalized).sum(rest), gradient.sum(rest)


def _is_mixed(features: torch.Tensor) -> bool:
    """Whether torch's kernels take them as they are, with statistics in float32; casts would double the time."""
    return features.device.type == "cpu" and features.dtype == torch.bfloat16 and features.numel() > 0


def _scaled(values: torch.Tensor, mean: torch.Tensor, factor: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """(values - mean) * factor + shift, by channel, in one pass over memory."""
    return functional.batch_norm(values, mean, torch.ones_like(mean), factor, shift, False, 0.0, 0.0)


def synchronize(classifier: Classifier, every: Every) -> bool:
    """Makes the batch normalisation that still trains use all processes' photos; whether there is any.

    Raises:
        UsageError: a layer keeps no statistics, or has no scale.
    """
    found = [(name, layer) for name, layer in classifier.named_modules() if isinstance(layer, Kinds)]
    if any(not (layer.affine and layer.track_running_stats) for _, layer in found):
        raise UsageError(
            "this backbone has batch normalisation without statistics or scale, which several processes cannot train; "
            "use one process"
        )
    for name, layer in found:
        after = classifier.interface.after_norm(layer) if isinstance(layer, nn.BatchNorm2d) else nn.Identity()
        _replace(classifier, name, SyncedBatchNorm(layer, after, every))
    return bool(found)


def unsynchronize(classifier: Classifier) -> None:
    """Puts the layers back that `synchronize` replaced, with what was learned since."""
    for name, layer in list(classifier.named_modules()):
        if isinstance(layer, SyncedBatchNorm):
            _replace(classifier, name, layer.before[0])


def _replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)


def _but_channels(features: torch.Tensor) -> list[int]:
    return [0, *range(2, features.ndim)]
