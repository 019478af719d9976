"""timm's train.py on given weights: its package does not hold the script, so its pieces are joined here.

In the order of train.py: `create_model` with `pretrained_cfg_overlay`, `resolve_data_config`, `create_optimizer_v2`,
`ModelEmaV3`, `create_dataset`, `FastCollateMixup` and `create_loader` with the prefetcher, loss, `create_scheduler_v2`;
after each epoch it validates (the average of weights, where there is one) and keeps the best, as train.py does.

Two settings:

- docs: the one fine-tuning of an ImageNet network that timm's documentation shows (hfdocs/source/training_script.mdx,
  a ResNet-50): `--pretrained --batch-size 32 --opt adamw --lr 1e-4 --weight-decay 0.01 --amp`; all else train.py's
  defaults (cosine, colour jitter 0.4, smoothing 0.1, scale 0.08 to 1).
- layers: what the same flags offer a practitioner beyond: `--opt adamw --lr 1e-3 --layer-decay 0.65 --weight-decay 0.05
  --aa rand-m7-mstd0.5-inc1 --model-ema --model-ema-decay 0.9998 --model-ema-warmup`, and from 20 epochs on
  `--mixup 0.2 --cutmix 1.0 --mixup-prob 0.5`. The layer decay is BEiT's for fine-tuning (Bao et al. 2021,
  arXiv 2106.08254, appendix H), which timm's optimiser factory took over.

In both `--channels-last`, `--amp --amp-dtype bfloat16` only where the machine multiplies bf16 itself, and a warm-up of
5 % of the updates: train.py's own five epochs would be all of a short training.
"""

import argparse
import copy
import time

import accuracy_contract as contract
import timm
import torch
from timm.data import FastCollateMixup, create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, random_seed

SETTINGS: dict[str, dict[str, object]] = {
    "docs": {"batch": 32, "lr": 1e-4, "weight_decay": 0.01, "layer_decay": None, "aa": None, "ema": False},
    "layers": {
        "batch": 64,
        "lr": 1e-3,
        "weight_decay": 0.05,
        "layer_decay": 0.65,
        "aa": "rand-m7-mstd0.5-inc1",
        "ema": True,
    },
}
SMOOTHING, WARMUP_SHARE, EPOCHS_FOR_MIXUP = 0.1, 0.05, 20
MIXUP = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "prob": 0.5, "switch_prob": 0.5, "label_smoothing": SMOOTHING}


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--setting", choices=SETTINGS, default="layers")
    options = parser.parse_args()
    setting = SETTINGS[options.setting]
    random_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_bfloat16 = contract.is_bfloat16_native(device)
    photos = create_dataset("", root=str(options.photos), split="train", is_training=True)
    judged = create_dataset("", root=str(options.photos), split="val")
    names = {place: name for name, place in photos.reader.class_to_idx.items()}
    if photos.reader.class_to_idx != judged.reader.class_to_idx:
        raise SystemExit("train/ and val/ have different classes")

    model = timm.create_model(
        options.backbone,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(options.weights)},
        num_classes=len(names),
    ).to(device, memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(
        model, opt="adamw", lr=setting["lr"], weight_decay=setting["weight_decay"], layer_decay=setting["layer_decay"]
    )
    average = ModelEmaV3(model, decay=0.9998, use_warmup=True) if setting["ema"] else None
    with_mixup = bool(setting["ema"]) and options.epochs >= EPOCHS_FOR_MIXUP
    data = resolve_data_config({"input_size": (3, options.size, options.size)}, model=model)
    common = {
        "input_size": data["input_size"],
        "batch_size": setting["batch"],
        "interpolation": data["interpolation"],
        "mean": data["mean"],
        "std": data["std"],
        "num_workers": options.workers,
        "device": device,
        "pin_memory": device.type != "cpu",
    }
    loader = create_loader(
        photos,
        is_training=True,
        color_jitter=0.4,
        auto_augment=setting["aa"],
        collate_fn=FastCollateMixup(num_classes=len(names), **MIXUP) if with_mixup else None,
        **common,
    )
    validation = create_loader(judged, is_training=False, crop_pct=data["crop_pct"], **common)
    loss_of = SoftTargetCrossEntropy() if with_mixup else LabelSmoothingCrossEntropy(SMOOTHING)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=options.epochs,
        warmup_epochs=WARMUP_SHARE * options.epochs,
        warmup_lr=1e-5 if setting["lr"] > 1e-5 else 0.0,
        step_on_epochs=False,
        updates_per_epoch=len(loader),
    )

    def autocast() -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16)

    def predicted() -> list[int]:
        judge = model if average is None else average.module
        judge.eval()
        found: list[int] = []
        with torch.inference_mode(), autocast():
            for images, _ in validation:
                found += judge(images.contiguous(memory_format=torch.channels_last)).argmax(dim=1).tolist()
        return found

    truth = [place for _, place in judged.reader.samples]
    clock, updates, best, best_right = contract.Stopwatch(), 0, None, -1
    scheduler.step_update(0)
    for _ in range(options.epochs):
        clock.start()
        model.train()
        for images, labels in loader:
            images = images.contiguous(memory_format=torch.channels_last)
            with autocast():
                loss = loss_of(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            updates += 1
            if average is not None:
                average.update(model, step=updates)
            scheduler.step_update(updates)
        right = sum(a == b for a, b in zip(predicted(), truth, strict=True))
        if right > best_right:
            best_right, best = right, copy.deepcopy((model if average is None else average.module).state_dict())
        clock.stop()

    began = time.perf_counter()
    (model if average is None else average.module).load_state_dict(best)
    files = [judged.filename(place) for place in range(len(judged))]
    contract.write(options.output, files, [names[place] for place in predicted()], options.photos)
    seconds = time.perf_counter() - began
    contract.report(clock.seconds, seconds, ("timm", "torchvision", "pillow"), mixup=with_mixup, bf16=is_bfloat16)


if __name__ == "__main__":
    main()
