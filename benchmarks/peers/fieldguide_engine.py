"""One of fieldguide's engines alone, on random images that lie ready: what `fieldguide predict` is held against."""

import tempfile
from pathlib import Path

import contract
import torch
from fieldguide_predict import bundle, int8_file

from fieldguide.deploy.engines import Plain
from fieldguide.deploy.names import INT8, PLAIN
from fieldguide.deploy.openvino_engine import int8
from fieldguide.deploy.origin import ENGINE_BATCH
from fieldguide.deploy.serving import OFFERS
from fieldguide.model.bundle import load_classifier
from fieldguide.model.description import find_bundle

WARM_CALLS = 2


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--engine", required=True, choices=(PLAIN, INT8, *OFFERS))
    options = parser.parse_args()
    device, watch = contract.device(), contract.Stopwatch()
    batch, files = ENGINE_BATCH[device.type], len(list(Path(options.photos).iterdir()))
    with tempfile.TemporaryDirectory() as name:
        made = Path(options.run) if options.run else bundle(Path(name), options.network, options.size)
        classifier, _ = load_classifier(find_bundle(made))
    if options.engine == PLAIN:
        engine = Plain(classifier, device)
    elif options.engine == INT8:
        engine = int8(int8_file(made), batch, options.size)
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
