"""A plain loop as good as torchvision's references, with whatever torch offers: bf16, channels_last, fused, compiled.

Written after torchvision's references/classification/train.py; the augmentation is the report's, from PIL photos
or, with --tensors, from torchvision's own JPEG decoder.
"""

import contextlib

import contract
import timm
import torch
from report_train import augmentation
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import decode_image
from torchvision.transforms import v2


def read_tensor(path: str) -> torch.Tensor:
    """(3, height, width) uint8."""
    return decode_image(path, mode="RGB")


def tensor_augmentation(size: int) -> v2.Compose:
    """The report's first phase, on tensors; normalised on the way as torchvision's preset does."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(15),
            v2.ColorJitter(0.1, 0.1, 0.1, 0.1),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(contract.MEAN, contract.STD),
        ]
    )


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--tensors", action="store_true", help="decode and augment tensors instead of PIL photos")
    options = parser.parse_args()
    contract.set_threads(options.threads)
    device, watch = contract.device(), contract.Stopwatch()
    if options.tensors:
        photos = ImageFolder(f"{options.photos}/train", tensor_augmentation(options.size), loader=read_tensor)
    else:
        photos = ImageFolder(f"{options.photos}/train", augmentation(options.size))
    loader = DataLoader(
        photos,
        options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
        pin_memory=device.type != "cpu",
    )
    model = timm.create_model(contract.NETWORKS[options.network], num_classes=len(photos.classes)).to(device).train()
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=options.fused)
    run = torch.compile(model) if options.compile else model
    half = options.precision == "bf16"

    def context() -> contextlib.AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext()

    for _ in range(options.epochs):
        with watch.running():
            for images, labels in loader:
                images = images.to(device, non_blocking=True).contiguous(memory_format=layout)
                labels = labels.to(device, non_blocking=True)
                with context():
                    loss = functional.cross_entropy(run(images), labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                loss.item()
    contract.report_training(watch, len(loader) * options.batch, ("torchvision", "timm", "pillow"))


if __name__ == "__main__":
    main()
