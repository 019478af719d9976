"""timm's training engine: its loader, transforms, task, optimiser and evaluator, joined as its train.py joins them.

timm's package does not hold train.py; this loop has its order of calls: `create_dataset`, `create_loader` with the
prefetcher that normalises whole batches, `create_optimizer_v2`, `ClassificationTask`, autocast, `loss.item()` a step.
Its flags: --amp --amp-dtype bfloat16 --channels-last --torchcompile --opt adam --smoothing 0 --color-jitter 0.1.
"""

import contextlib
import functools

import contract
import timm
import torch
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.task import ClassificationTask
from timm.utils import AverageMeter


def main() -> None:
    options = contract.arguments(__doc__).parse_args()
    contract.set_threads(options.threads)
    device, watch = contract.device(), contract.Stopwatch()
    photos = create_dataset("", root=options.photos, split="train", is_training=True)
    loader = create_loader(
        photos,
        input_size=(3, options.size, options.size),
        batch_size=options.batch,
        is_training=True,
        color_jitter=0.1,
        interpolation="bilinear",
        num_workers=options.workers,
        device=device,
        pin_memory=device.type != "cpu",
    )
    classes = len(photos.reader.class_to_idx)
    model = timm.create_model(contract.NETWORKS[options.network], num_classes=classes).to(device)
    if options.channels_last:
        model = model.to(memory_format=torch.channels_last)
    more = {"fused": True} if options.fused else {}
    optimizer = create_optimizer_v2(model, opt="adam", lr=1e-3, weight_decay=0.0, **more)
    task = ClassificationTask(model, device=device, verbose=False)
    if options.compile:
        task.compile()
    autocast = contextlib.nullcontext
    if options.precision == "bf16":
        autocast = functools.partial(torch.autocast, device_type=device.type, dtype=torch.bfloat16)
    for _ in range(options.epochs):
        losses = AverageMeter()
        task.train()
        with watch.running():
            optimizer.zero_grad()
            for images, labels in loader:
                if options.channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                with autocast():
                    loss = task(images, labels)["loss"]
                loss.backward()
                optimizer.step()
                losses.update(loss.item(), images.size(0))
                optimizer.zero_grad()
    contract.report_training(watch, len(loader) * options.batch, ("timm", "torchvision", "pillow"))


if __name__ == "__main__":
    main()
