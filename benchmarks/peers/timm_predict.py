"""timm's inference: its dataset, loader and transforms, joined as its inference.py joins them, to a CSV by pandas.

Its flags: --amp --amp-dtype bfloat16 or --model-dtype bfloat16, --channels-last --torchcompile --topk 1.
"""

import contextlib
import functools

import contract
import numpy as np
import pandas as pd
import torch
from timm.data import create_dataset, create_loader


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--bf16-weights", action="store_true", help="timm's --model-dtype bfloat16")
    parser.add_argument("--freeze", action="store_true", help="TORCHINDUCTOR_FREEZING=1")
    options = parser.parse_args()
    contract.set_threads(options.threads)
    device = contract.device()
    number = torch.bfloat16 if options.bf16_weights else torch.float32
    model = contract.network(options).to(device, number)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if options.compile:
        torch._inductor.config.freezing = options.freeze
        model = torch.compile(model)
    autocast = contextlib.nullcontext
    if options.precision == "bf16":
        autocast = functools.partial(torch.autocast, device_type=device.type, dtype=torch.bfloat16)
    # inference_mode as in inference.py, but weights become constants under no_grad alone
    no_gradients = torch.no_grad if options.freeze else torch.inference_mode

    def predict(folder: str, output: str) -> int:
        loader = create_loader(
            create_dataset("", root=folder),
            input_size=(3, options.size, options.size),
            batch_size=options.batch,
            interpolation="bilinear",
            crop_pct=0.875,
            num_workers=options.workers,
            device=device,
            img_dtype=number,
        )
        indices, probabilities = [], []
        with no_gradients():
            for images, _ in loader:
                if options.channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                with autocast():
                    logits = model(images)
                best, index = logits.softmax(-1).topk(1)
                indices.append(index.cpu().numpy())
                probabilities.append(best.float().cpu().numpy())
        frame = pd.DataFrame(
            {
                "filename": loader.dataset.filenames(basename=True),
                "index": list(np.concatenate(indices).squeeze(-1)),
                "prob": list(np.concatenate(probabilities).squeeze(-1)),
            }
        )
        frame.to_csv(output, index=False)
        return len(frame)

    if not options.whole:
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        nothing = torch.zeros(options.batch, 3, options.size, options.size, dtype=number)
        for _ in range(2):
            with no_gradients(), autocast():
                model(nothing.contiguous(memory_format=layout))
    contract.time_prediction(predict, options, ("timm", "torchvision", "pillow"))


if __name__ == "__main__":
    main()
