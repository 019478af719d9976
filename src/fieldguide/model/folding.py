"""Batch normalisation written into the convolutions before it, for a network that learns no more."""

import copy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of a network in which each batch normalisation that follows a convolution is part of it.

    Args:
        network: in evaluation mode. It is followed by `torch.fx`; one that cannot be followed is copied as it is.

    Returns:
        A network with the same outputs but for rounding: `weight * gamma / sqrt(variance + eps)`, and the bias likewise
        (Jacob et al. 2018, "Quantization and training of neural networks", equation 14).
    """
    own = copy.deepcopy(network).eval()
    try:
        traced = fx.symbolic_trace(own)
    except Exception:  # a network whose way depends on its input; slower, and just as right
        return own
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        before = _convolution_before(node, modules)
        if before is None:
            continue
        parent, _, name = str(before.target).rpartition(".")
        folded = fuse_conv_bn_eval(modules[str(before.target)], modules[str(node.target)])
        setattr(modules[parent], name, folded)
        modules[str(before.target)] = folded
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _convolution_before(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The convolution whose only reader is this batch normalisation; None if this is none, or it has no such."""
    if node.op != "call_module" or type(modules[str(node.target)]) is not nn.BatchNorm2d:
        return None
    before = node.args[0]
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return None
    norm, convolution = modules[str(node.target)], modules[str(before.target)]
    assert isinstance(norm, nn.BatchNorm2d)
    has_own_statistics = isinstance(norm.running_var, torch.Tensor) and norm.affine
    once = sum(1 for other in node.graph.nodes if other.target in (node.target, before.target)) == 2
    return before if type(convolution) is nn.Conv2d and has_own_statistics and once else None
