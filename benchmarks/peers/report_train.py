"""The report's own way: fp32, NCHW, torchvision's transforms on PIL photo by photo, a DataLoader, Adam."""

import contract
import timm
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


def augmentation(size: int) -> v2.Compose:
    """The report's first phase."""
    return v2.Compose(
        [
            v2.RandomResizedCrop(size),
            v2.RandomHorizontalFlip(),
            v2.RandomRotation(15),
            v2.ColorJitter(0.1, 0.1, 0.1, 0.1),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(contract.MEAN, contract.STD),
        ]
    )


def main() -> None:
    options = contract.arguments(__doc__).parse_args()
    contract.set_threads(options.threads)
    device, watch = contract.device(), contract.Stopwatch()
    photos = ImageFolder(f"{options.photos}/train", augmentation(options.size))
    loader = DataLoader(
        photos, options.batch, shuffle=True, num_workers=options.workers, pin_memory=device.type != "cpu"
    )
    model = timm.create_model(contract.NETWORKS[options.network], num_classes=len(photos.classes)).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(options.epochs):
        with watch.running():
            loss_sum = 0.0
            for images, labels in loader:
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                loss_sum += loss.item()
    contract.report_training(watch, len(photos), ("torchvision", "timm", "pillow"))


if __name__ == "__main__":
    main()
