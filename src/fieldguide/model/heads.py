"""What stands between the backbone's pooled features and the classes."""

from torch import nn

from fieldguide.model.architecture import HEADS


def make_head(kind: str, num_features: int, num_classes: int, width: int | None, dropout: float) -> nn.Sequential:
    """Builds a head.

    Args:
        kind: `linear`: dropout, linear. `bottleneck`: dropout, linear to `width`, ReLU, batch normalisation,
            dropout, linear (the report's, section 2.2.2). `mlp`: the same without batch normalisation.
        num_features: of the backbone.
        num_classes: of the output.
        width: of the hidden layer; None for `linear`.
        dropout: rate of each dropout layer; at 0 the layers are left out of `linear`.

    Returns:
        A module from (batch, num_features) float to (batch, num_classes) logits.
    """
    if kind == "linear":
        layer = nn.Linear(num_features, num_classes)
        return nn.Sequential(nn.Dropout(dropout), layer) if dropout else nn.Sequential(layer)
    assert width is not None and kind in HEADS, (kind, width)
    normalization = [nn.BatchNorm1d(width)] if kind == "bottleneck" else []
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(num_features, width),
        nn.ReLU(),
        *normalization,
        nn.Dropout(dropout),
        nn.Linear(width, num_classes),
    )
