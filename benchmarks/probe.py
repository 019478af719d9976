"""How closely a probe is solved, and what class shares in its head change, on held-out training photos.

Usage: python benchmarks/probe.py PHOTOS --weights FILE [--backbone resnet18.tv_in1k] [--size 128]
A fifth of the photos in PHOTOS/train, drawn by a seed, is held out; validation and test photos are not opened. A row
is one regression on the frozen backbone's features: its strength (scikit-learn's C), the tolerance of its gradient,
its iterations and seconds, and the log loss and both accuracies on the fifth. The last two columns subtract the
logarithm of each class's share from the logits. A training would choose the strength with the lowest log loss. The last
line is the training's own probe, which chooses the strength by itself: its wall and CPU seconds include that.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fieldguide import assemble
from fieldguide.data.look.scan import scan
from fieldguide.data.read.decode import read_photo
from fieldguide.data.read.preprocess import center, normalize, pixels
from fieldguide.model.classifier import make_classifier
from fieldguide.model.weights import load_weights
from fieldguide.recipe.load import read_recipe
from fieldguide.training.probe import MIDDLE, STRONGER, WEAKER, fit_probe

MOST_ITERATIONS = 200  # more than a training takes, so that the tolerance ends a fit
TOLERANCES = (1e-3, 3e-4, 1e-4, 1e-5)
Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]


def features_of(options: argparse.Namespace) -> tuple[Floats, Labels]:
    """(photos, features) of the frozen backbone, of photos as they are, and (photos,) their classes."""
    fields = ("training.plan=null", f"model.backbone={options.backbone}", f"data.image_size_px={options.size}")
    fields += (f"model.features={options.features}",)
    recipe = assemble.resolved(read_recipe("auto", (*fields, f"model.weights={options.weights}")))
    preprocessing = assemble.preprocessing_of(recipe)
    photos = [photo for photo in scan(options.photos).photos if photo.part == "train"]
    classes = sorted({photo.class_name for photo in photos if photo.class_name is not None})
    model = make_classifier(assemble.architecture(recipe, len(classes)))
    load_weights(model, str(options.weights), options.backbone, classes)
    model.eval()
    made = []
    for start in range(0, len(photos), 64):
        images = torch.stack([pixels(center(read_photo(p.path), preprocessing)) for p in photos[start : start + 64]])
        with torch.inference_mode():
            made.append(model.features(normalize(images, preprocessing)).float())
    return torch.cat(made).numpy(), np.array([classes.index(photo.class_name or "") for photo in photos])


def accuracies(logits: Floats, labels: Labels) -> tuple[float, float]:
    """The share of photos that are right, and the mean of that over the classes."""
    right = logits.argmax(axis=1) == labels
    return float(right.mean()), float(np.mean([right[labels == name].mean() for name in np.unique(labels)]))


def main() -> None:
    """Prints a row a strength and tolerance."""
    from sklearn.linear_model import LogisticRegression

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--features", choices=["last", "stages", "stages_max"], default="last")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    features, labels = features_of(options)
    out = np.random.default_rng(options.seed).random(len(labels)) < 0.2
    mean, deviation = features[~out].mean(axis=0), features[~out].std(axis=0)
    scaled = (features - mean) / np.where(deviation > 1e-6, deviation, 1)
    shares = np.log(np.bincount(labels[~out]) / (~out).sum())
    print(f"{(~out).sum():,} photos, {out.sum():,} held out, {len(shares)} classes, {features.shape[1]} features\n")
    print("| C | tolerance | iterations | s | log loss | accuracy | macro | without shares | macro |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for strength in (*WEAKER[::-1], MIDDLE, STRONGER[0]):
        for tolerance in TOLERANCES:
            began = time.perf_counter()
            regression = LogisticRegression(C=strength, max_iter=MOST_ITERATIONS, tol=tolerance)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of iterations that were not enough, which the row shows
                regression.fit(scaled[~out], labels[~out])
            seconds = time.perf_counter() - began
            logits = regression.decision_function(scaled[out])
            loss = -regression.predict_log_proba(scaled[out])[np.arange(out.sum()), labels[out]].mean()
            figures = (*accuracies(logits, labels[out]), *accuracies(logits - shares, labels[out]))
            told = " | ".join(f"{figure:.4f}" for figure in (loss, *figures))
            print(f"| {strength:g} | {tolerance:.0e} | {regression.n_iter_[0]} | {seconds:.1f} | {told} |", flush=True)
    began, cpu = time.perf_counter(), time.process_time()
    fitted = fit_probe(features[~out], labels[~out], len(shares), options.seed)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    logits = fitted.logits(features[out])
    highest = logits.max(axis=1)
    sums = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    loss = float((sums - logits[np.arange(len(logits)), labels[out]]).mean())
    print(
        f"\nthe training's own: C {fitted.inverse_strength:g}, {seconds:.1f} s ({cpu:.1f} s of CPU), "
        f"log loss {loss:.4f}, accuracy {accuracies(logits, labels[out])[0]:.4f}"
    )


if __name__ == "__main__":
    main()
