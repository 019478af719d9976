"""The least that predicts one photo with timm, from a file of weights to a CSV: WEIGHTS NETWORK PHOTO OUTPUT."""

import csv
import sys
from pathlib import Path

import contract
import timm
import torch
from PIL import Image


def main() -> None:
    weights, network, photo, output = sys.argv[1:]
    model = timm.create_model(contract.NETWORKS[network], num_classes=1000, checkpoint_path=weights).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with Image.open(photo) as image, torch.inference_mode():
        best = model(transform(image.convert("RGB"))[None]).softmax(dim=1).max(dim=1)
    with open(output, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "confidence"))
        writer.writerow((Path(photo).name, best.indices.item(), f"{best.values.item():.6f}"))


if __name__ == "__main__":
    main()
