"""Photos that the tests make."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

torch.set_num_threads(1)  # the tests run side by side, and their networks are small


def write_photo(path, hue, number, size=(40, 30)):
    """A photo of one colour with patches of its own, so that no two are near duplicates."""
    draw = np.random.default_rng([hue, number])
    width, height = size
    pixels = np.full((height, width, 3), [(hue * 83) % 256, (hue * 151) % 256, (hue * 37) % 256], dtype=float)
    coarse = draw.normal(0, 40, (5, 6, 3)).repeat(-(-height // 5), 0)[:height].repeat(-(-width // 6), 1)[:, :width]
    pixels += coarse + draw.normal(0, 8, pixels.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def two_weights(tmp_path):
    """A folder with random weights of two small networks, in files named after them."""
    import timm
    from safetensors.torch import save_file

    made = tmp_path / "weights"
    made.mkdir()
    for name in ("test_resnet", "test_byobnet"):
        torch.manual_seed(0)
        save_file(timm.create_model(name, num_classes=0).state_dict(), made / f"{name}.safetensors")
    return made


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """No test reads or fills the cache of the person who runs it."""
    before = os.environ.get("FIELDGUIDE_CACHE")
    os.environ["FIELDGUIDE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["FIELDGUIDE_CACHE"]
    else:
        os.environ["FIELDGUIDE_CACHE"] = before


@pytest.fixture
def make_photos():
    """make_photos(root, {"train/cat": 3, "test": 2}): so many photos in each folder."""

    def make(root, counts, size=(40, 30), seed=0):
        hues = {}
        for place, (folder, count) in enumerate(counts.items()):
            hue = hues.setdefault(folder.rpartition("/")[2], len(hues) + 1)
            for number in range(count):
                write_photo(root / folder / f"{number:03d}.png", hue, 1000 * (place + 1) + number + seed, size)
        return root

    return make


@pytest.fixture(scope="session")
def local_ray():
    """A Ray cluster of two CPUs that all tests of a process share."""
    ray = pytest.importorskip("ray", reason="needs pip install 'fieldguide[ray]'")
    before = {name: os.environ.get(name) for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ADDRESS")}
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    os.environ.pop("RAY_ADDRESS", None)
    how = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(address="local", num_cpus=2, object_store_memory=200_000_000, **how)
    yield ray
    ray.shutdown()
    for name, value in before.items():
        if value is not None:
            os.environ[name] = value
