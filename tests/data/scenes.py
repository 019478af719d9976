"""Pictures that look like photos to a hash: smooth, coloured, with edges, and each different from all others."""

import io

import numpy as np
from PIL import Image


def scene(number, size=(160, 120)):
    """A picture for each number; the same one always."""
    draw = np.random.default_rng([7, number])
    width, height = size
    clouds = Image.fromarray(draw.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(clouds).copy()
    for _ in range(6):
        x, y = draw.integers(0, width - 20), draw.integers(0, height - 20)
        pixels[y : y + draw.integers(8, 40), x : x + draw.integers(8, 40)] = draw.integers(0, 256, 3)
    return Image.fromarray(pixels)


def cut(image, left=0.0, top=0.0, right=0.0, bottom=0.0):
    """Cuts shares of the sides off."""
    width, height = image.size
    box = (left * width, top * height, width - right * width, height - bottom * height)
    return image.crop(tuple(round(edge) for edge in box))


def scaled(image, factor):
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def save(image, path, kind=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, kind, **options)
    return path


def write(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
