"""What is fuzzed: for each area, files that are right, and what reads them. Another loader is a line in `AREAS`."""

import io
import json
import os
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from fieldguide.commands.trial.request import Request, demand_same_recipe, read_request, write_request
from fieldguide.data.batch.waiting import Waiting
from fieldguide.data.look.facts import facts_of
from fieldguide.data.look.files import images_below
from fieldguide.data.look.listed import matched, rows_of
from fieldguide.data.look.scan import Photo
from fieldguide.data.read import archive_cache
from fieldguide.data.read.archive_cache import as_folder
from fieldguide.data.read.decode import decode
from fieldguide.data.split.partition import Row, Split, read_split, write_split
from fieldguide.data.table.match import Names
from fieldguide.errors import FieldguideError, UsageError
from fieldguide.evaluation.predictions import Predictions, read_predictions, write_predictions
from fieldguide.model.architecture import Architecture
from fieldguide.model.bundle import load_classifier, write_bundle
from fieldguide.model.classifier import make_classifier
from fieldguide.model.description import Description, read_description
from fieldguide.model.foreign import _bound_memory, tensors_of
from fieldguide.model.weights import LoadedWeights, read_file
from fieldguide.recipe.load import preset_names, preset_text, read_draft
from fieldguide.recipe.schema import Recipe
from fieldguide.run_folder import RunFolder
from fieldguide.storage import digest
from fieldguide.training.average import Average
from fieldguide.training.checkpoint import best_weights_of, candidates_of, restore, state_of
from fieldguide.training.checkpoint_files import Checkpoints
from fieldguide.training.loop import train
from fieldguide.training.observers import Observers
from fieldguide.training.plan import Convergence, next_stage
from fieldguide.training.under_way import UnderWay
from tests.data.table.variants import LABELS, TEXTS
from tests.data.table.variants import parquet as write_parquet
from tests.odd_photos import odd_contents
from tests.training.test_checkpoint import made, stopping_after
from tests.training.test_loop import PLAN, Diary, network

SECONDS_OF_A_CHILD, REFUSED = 10, 3
ARCHITECTURE = Architecture("test_resnet", "bottleneck", 8, 0.25, 3)
PREPROCESSING = {"image_size_px": 32, "resize_px": 32, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}


@dataclass(frozen=True)
class Area:
    """A loader and what it is fed.

    Attributes:
        seeds: contents that it reads, to be damaged; made when they are asked for.
        read: takes the path of a file with a damaged content; may raise a FieldguideError and nothing else.
        file: what that file is called.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    file: str


def _in_a_child(read: Callable[[Path], object]) -> Callable[[Path], None]:
    """A reader that is given up after `SECONDS_OF_A_CHILD`, as `model.foreign` gives up its own after longer.

    torch's reader can be kept busy for long: by keys of nested tuples, and by its own search through a long message.
    """

    def bounded(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, none of which is in a lock here
            child = os.fork()
        if child == 0:
            code = 1
            try:
                _bound_memory(path.stat().st_size)
                read(path)
                code = 0
            except FieldguideError as error:
                code = REFUSED if str(error).strip() else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        began = time.monotonic()
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() - began > SECONDS_OF_A_CHILD:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise UsageError("takes too long to read")
            time.sleep(0.002)
        code = os.waitstatus_to_exitcode(ended[1])
        if code == REFUSED:
            raise UsageError("refused")
        assert code == 0, f"the reader ended with {code}"

    return bounded


def attempt(area: Area, content: bytes) -> bool:
    """Feeds one content; says whether it was taken. Any error that is not a person's is a finding."""
    with tempfile.TemporaryDirectory(prefix="fieldguide-fuzz-") as folder:
        path = Path(folder) / area.file
        path.write_bytes(content)
        try:
            area.read(path)
        except FieldguideError as error:
            assert str(error).strip(), "a refusal without words"
            return False
    return True


def _written(write: Callable[[Path], object], name: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="fieldguide-fuzz-") as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()


@cache
def _bundle() -> tuple[bytes, bytes]:
    """Description and weights of a small bundle."""
    torch.manual_seed(0)
    weights = make_classifier(ARCHITECTURE).state_dict()
    with tempfile.TemporaryDirectory(prefix="fieldguide-fuzz-") as folder:
        write_bundle(Path(folder), Description(ARCHITECTURE, ("käse", "a\nb", "10"), PREPROCESSING, None), weights)
        return (Path(folder) / "model.json").read_bytes(), (Path(folder) / "model.safetensors").read_bytes()


def _descriptions() -> list[bytes]:
    said = json.loads(_bundle()[0])
    del said["description_sha256"]  # or no damage would get past the checksum
    return [_bundle()[0], json.dumps(said).encode()]


def _read_description(path: Path) -> None:
    (path.parent / "model.safetensors").write_bytes(_bundle()[1])
    load_classifier(path.parent)


def _read_bundle_weights(path: Path) -> None:
    """As if a stranger had made the checksum right, too."""
    import hashlib

    said = json.loads(_bundle()[0])
    del said["description_sha256"]
    said["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "model.json").write_text(json.dumps(said))
    read_description(path.parent)
    load_classifier(path.parent)


def _state_dicts() -> list[bytes]:
    tensors = {"a": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.int64)}
    found = []
    for is_new in (True, False):
        buffer = io.BytesIO()
        torch.save({"state_dict": tensors}, buffer, _use_new_zipfile_serialization=is_new)
        found.append(buffer.getvalue())
    return found


def _safetensors() -> list[bytes]:
    return [save({"a": torch.zeros(3, 4), "b.c": torch.ones(2, dtype=torch.int64)})]


def _splits() -> list[bytes]:
    first, second = Row('a "b",\n.jpg', "x", "train", "0" * 64), Row("c\r.jpg", "=y", "val", "1" * 64)
    rows = (first, second, Row("d", "", "excluded", "", "?"))
    return [_written(lambda path: write_split(path, Split(rows)), "split.csv")]


def _predictions() -> list[bytes]:
    said = Predictions(("a", "b"), np.array([0, 1]), np.eye(2, dtype=np.float32), ("x", "y"))
    return [_written(lambda path: write_predictions(path, said), "predictions.npz")]


def _read_image(path: Path) -> None:
    """Decoding and the look of `check` must agree on whether it is a photo."""
    facts = facts_of(Photo(path, "x.jpg", "train", "x"), 20)
    try:
        image = decode(path.read_bytes(), 20)
    except FieldguideError:
        assert facts.reason, "check takes what cannot be decoded"
        raise
    assert not facts.reason, f"check refuses what can be decoded: {facts.reason}"
    assert image.mode == "RGB" and 0 < image.width * image.height <= 20e6
    assert (facts.width, facts.height) == image.size


WHOLE = replace(PLAN, ema_decay=0.9, soup_candidates=3)  # so that all that can be saved is


@cache
def _checkpoint() -> tuple[bytes, bytes]:
    """What is said of a training that was stopped in its third epoch, and its tensors."""
    model = network()
    with tempfile.TemporaryDirectory(prefix="fieldguide-fuzz-") as folder:
        keeper = Checkpoints(Path(folder), 1e9, lambda: {"waited_for_data": [0.5, 2.0]})
        train(model, WHOLE, made("adam", "plateau"), Observers([Diary(model), keeper]), stopping_after(8))
        last = keeper.numbers()[-1]
        said = json.loads((Path(folder) / f"{last:06d}.json").read_bytes())["checkpoint"]
        return json.dumps(said).encode(), (Path(folder) / f"{last:06d}.safetensors").read_bytes()


def _go_on(folder: Path) -> None:
    """As `--resume` does: a checkpoint that is damaged is told, and whatever is not is taken or refused in words."""
    model = network()
    found = Checkpoints(folder, 10).newest(model)
    if found.snapshot is None:
        raise UsageError(*found.damaged)
    state = state_of(
        found.snapshot.plain["state"], WHOLE, best_weights_of(found.snapshot), candidates_of(found.snapshot)
    )
    assert all(json.dumps(epoch.to_dict(), allow_nan=False) for epoch in state.history)
    Waiting().go_on(found.snapshot.plain["beside"].get("waited_for_data", (0, 0)))
    stage = next_stage(WHOLE, state.ended, state.more)
    if stage is not None and "under_way" in found.snapshot.plain:
        tools = made("adam", "plateau")
        optimizer = tools.make_optimizer(model, stage.learning_rate)
        schedule = tools.make_schedule(optimizer, stage, tools.steps_per_epoch)
        average = Average(model, 0.9)
        restore(found.snapshot, model, UnderWay(stage, optimizer, schedule, Convergence(0.001, 3), average=average))


def _read_checkpoint(path: Path) -> None:
    """As if a stranger had made the checksum right, where it is JSON at all."""
    (path.parent / "000001.safetensors").write_bytes(_checkpoint()[1])
    try:
        body = json.loads(path.read_bytes())
        checksum = digest(json.dumps(body, sort_keys=True).encode())
        path.write_text(json.dumps({"sha256": checksum, "checkpoint": body}))
    except (ValueError, RecursionError):
        pass
    _go_on(path.parent)


def _read_checkpoint_tensors(path: Path) -> None:
    body = json.loads(_checkpoint()[0])
    body["tensors"]["sha256"] = digest(path.read_bytes())
    (path.parent / "000001.json").write_text(
        json.dumps({"sha256": digest(json.dumps(body, sort_keys=True).encode()), "checkpoint": body})
    )
    _go_on(path.parent)


def _requests() -> list[bytes]:
    recipe, rules = Recipe().model_dump(mode="json"), {"kept": True, "broken": [], "unverified": ["yours to know"]}
    weights = LoadedWeights("hub", "imagenet-1k", ("fc.weight",)).to_dict()
    asked = Request("/photos", "mine", recipe, "0" * 64, ("a remark",), rules, weights, "cpu")
    return [_written(lambda path: write_request(RunFolder(path.parent), asked), "resume.json")]


def _read_request(path: Path) -> None:
    run = RunFolder(path.parent)
    asked = read_request(run)
    demand_same_recipe(run, asked, ())
    LoadedWeights(**asked.weights).sentence()


def _recipes() -> list[bytes]:
    return [preset_text(name).encode() for name in preset_names()]


def _images() -> list[bytes]:
    return [content for content in odd_contents().values() if len(content) < 30_000]


def _archives() -> list[bytes]:
    found = []
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", kind) as archive:
            archive.writestr("a/1.png", b"some bytes" * 20)
        found.append(content.getvalue())
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a/1.png"))
    return [*found, content.getvalue()]


def _read_archive(path: Path) -> None:
    try:
        images_below(as_folder(path))
    finally:
        while archive_cache._in_use:  # what this process uses is kept
            os.close(archive_cache._in_use.popitem()[1])
        archive_cache.forget_archives()


def _tables() -> list[bytes]:
    return [content for _, content in TEXTS.values()]


def _parquet() -> list[bytes]:
    return [_written(write_parquet, "a.parquet")]


def _read_table(path: Path) -> None:
    names = Names(list(LABELS))
    matched(rows_of(path, None, names), names, list(LABELS))


AREAS = {
    "table": Area(_tables, _read_table, "labels.csv"),
    "table in Parquet": Area(_parquet, _read_table, "labels.parquet"),
    "archive": Area(_archives, _read_archive, "photos.zip"),
    "recipe": Area(_recipes, lambda path: read_draft(path).demand(), "r.yaml"),
    "bundle": Area(_descriptions, _read_description, "model.json"),
    "bundle weights": Area(lambda: [_bundle()[1]], _read_bundle_weights, "model.safetensors"),
    "weights .pth": Area(_state_dicts, _in_a_child(tensors_of), "w.pth"),
    "weights .safetensors": Area(_safetensors, read_file, "w.safetensors"),
    "checkpoint": Area(lambda: [_checkpoint()[0]], _read_checkpoint, "000001.json"),
    "checkpoint tensors": Area(lambda: [_checkpoint()[1]], _read_checkpoint_tensors, "000001.safetensors"),
    "request": Area(_requests, _read_request, "resume.json"),
    "split": Area(_splits, read_split, "split.csv"),
    "predictions": Area(_predictions, read_predictions, "predictions.npz"),
    "image": Area(_images, _read_image, "x.jpg"),
}
