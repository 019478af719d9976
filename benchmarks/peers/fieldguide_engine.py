"""One of fieldguide's engines alone, on random images that lie ready: what `fieldguide predict` is held against."""

import tempfile
from pathlib import Path

import contract
import torch
from fieldguide_predict import bundle

from fieldguide.deploy.engines import Plain
from fieldguide.deploy.origin import ENGINE_BATCH
from fieldguide.deploy.serving import OFFERS
from fieldguide.model.bundle import load_classifier

WARM_CALLS = 2


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--engine", required=True, choices=("plain", *OFFERS))
    options = parser.parse_args()
    device, watch = contract.device(), contract.Stopwatch()
    batch, files = ENGINE_BATCH[device.type], len(list(Path(options.photos).iterdir()))
    with tempfile.TemporaryDirectory() as name:
        classifier, _ = load_classifier(bundle(Path(name), options.network, options.size))
    if options.engine == "plain":
        engine = Plain(classifier, device)
    else:
        engine = OFFERS[options.engine].make(classifier, device, batch, options.size)
    images = torch.randn(batch, 3, options.size, options.size)  # (batch, 3, height, width) float32
    for _ in range(WARM_CALLS):
        engine.compute(images)
    calls = max(1, files // batch)
    with watch.running():
        for _ in range(calls):
            engine.compute(images)
    contract.report_prediction(watch, calls * batch, ("fieldguide", "timm"), synthetic=True)


if __name__ == "__main__":
    main()
