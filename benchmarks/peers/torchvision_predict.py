"""A plain loop on torchvision's transforms, with whatever torch offers: bf16, channels_last, compiled, frozen."""

import contextlib
import csv
from pathlib import Path

import contract
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.io import decode_image
from torchvision.transforms import v2


class Photos(Dataset):
    """Files in order, preprocessed."""

    def __init__(self, files: list[Path], size: int, tensors: bool) -> None:
        self.files, self.tensors = files, tensors
        first = [] if tensors else [v2.PILToTensor()]
        resize = [v2.Resize(round(size / 0.875), antialias=True), v2.CenterCrop(size)]
        last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(contract.MEAN, contract.STD)]
        self.transform = v2.Compose([*resize, *first, *last])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        file = self.files[place]
        if self.tensors:
            return self.transform(decode_image(str(file), mode="RGB"))
        with Image.open(file) as image:
            return self.transform(image.convert("RGB"))


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--tensors", action="store_true", help="decode and resize tensors instead of PIL photos")
    parser.add_argument("--freeze", action="store_true", help="with --compile: weights become constants")
    parser.add_argument("--bf16-weights", action="store_true", help="the whole network in bf16 instead of autocast")
    options = parser.parse_args()
    contract.set_threads(options.threads)
    device = contract.device()
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    number = torch.bfloat16 if options.bf16_weights else torch.float32
    model = contract.network(options).to(device, number).to(memory_format=layout)
    if options.compile:
        torch._inductor.config.freezing = options.freeze
        model = torch.compile(model)

    def context() -> contextlib.AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if options.precision == "bf16" else contextlib.nullcontext()

    def logits(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), context():
            return model(images.to(device, number).contiguous(memory_format=layout)).float()

    def predict(photos: str, output: str) -> int:
        files = sorted(Path(photos).iterdir())
        loader = DataLoader(Photos(files, options.size, options.tensors), options.batch, num_workers=options.workers)
        with open(output, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("image", "label", "confidence"))
            place = 0
            for images in loader:
                best = logits(images).softmax(dim=1).max(dim=1)
                for label, confidence in zip(best.indices.tolist(), best.values.tolist(), strict=True):
                    writer.writerow((files[place].name, label, f"{confidence:.6f}"))
                    place += 1
        return len(files)

    if not options.whole:
        for _ in range(2):
            logits(torch.zeros(options.batch, 3, options.size, options.size))
    contract.time_prediction(predict, options, ("torchvision", "timm", "pillow"))


if __name__ == "__main__":
    main()
