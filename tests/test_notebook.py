"""The notebook for a course, from a zip of photos to the submission, run as a kernel runs it, from a wheel."""

import csv
import json
import zipfile

import pytest

from tests.from_wheel import Environment, build_wheel, copy_sources, demand_tools
from tests.test_docs import ROOT

NOTEBOOK = ROOT / "examples" / "course.ipynb"
SMALL = (
    "model.backbone=test_resnet rules.backbones=null data.image_size_px=32 training.max_epochs=1 training.batch_size=8"
)
RUN = """
import sys, nbclient, nbformat
for _ in range(2):
    notebook = nbformat.read(sys.argv[1], as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A copy of what a wheel is built from."""
    demand_tools()
    return copy_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def wheel(sources, tmp_path_factory):
    """fieldguide as a wheel."""
    return build_wheel(sources, tmp_path_factory.mktemp("wheels"))


@pytest.mark.slow
def test_an_install_keeps_the_torch_that_is_there(sources, wheel, tmp_path):
    environment = Environment(tmp_path / "environment")
    for what in (wheel, sources):
        would = environment.run("-m", "pip", "install", "--dry-run", "--no-build-isolation", what, cwd=tmp_path)
        assert would.returncode == 0, would.stderr
        told = [line for line in would.stdout.splitlines() if line.startswith("Would install")]
        assert told == ["Would install fieldguide-0.1.0"]
    assert environment.installed() == []


@pytest.mark.slow
def test_the_notebook_goes_from_a_zip_to_the_submission_and_again_without_training(wheel, tmp_path, make_photos):
    pytest.importorskip("nbclient"), pytest.importorskip("nbformat"), pytest.importorskip("ipykernel")
    environment, empty = Environment(tmp_path / "environment"), tmp_path / "empty"
    empty.mkdir()
    counts = {"train/cat": 8, "train/dog": 8, "val/cat": 4, "val/dog": 4, "test": 3}
    photos = make_photos(tmp_path / "course", counts)
    archive, work, kept = tmp_path / "photos.zip", tmp_path / "work", tmp_path / "kept"
    with zipfile.ZipFile(archive, "w") as made:
        for place in sorted(photos.rglob("*.png")):
            made.write(place, f"course/{place.relative_to(photos)}")
    done = environment.run(
        "-c", RUN, NOTEBOOK, tmp_path / "done.ipynb", cwd=empty,
        COURSE_PROGRAM=str(wheel.parent), COURSE_ARCHIVE=str(archive), COURSE_WORK=str(work), COURSE_KEPT=str(kept),
        COURSE_WEIGHTS="none", COURSE_OVERRIDES=f"{SMALL} data.leaks=allow",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert environment.installed() == ["fieldguide"] and not list(empty.iterdir())
    cells = json.loads((tmp_path / "done.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = json.dumps([cell.get("outputs", []) for cell in cells])
    assert "<iframe srcdoc=" in shown and "upload" in shown and "resnetrs101-adam" in shown
    table = (work / "table" / "table.md").read_text(encoding="utf-8")
    assert all(name in table for name in ("resnet34-adam", "resnet34-sgd", "resnet50-adam", "resnet50-sgd"))
    with zipfile.ZipFile(kept / "submission.zip") as submission:
        rows = list(csv.reader(submission.read("prediction.csv").decode("utf-8").splitlines()))
    assert rows[0] == ["image_name", "pred_label"] and [row[0] for row in rows[1:]] == ["000", "001", "002"]
    assert {row[1] for row in rows[1:]} <= {"cat", "dog"}
    assert [place.name for place in kept.iterdir() if (place / "bundle").is_dir()]
    where = environment.run("-c", "import fieldguide; print(fieldguide.__file__)", cwd=empty)
    assert where.stdout.startswith(str(environment.own)), where


def test_the_notebook_has_no_outputs_and_names_all_recipes_of_the_table():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    whole = "".join("".join(cell["source"]) for cell in code)
    for name in ("resnet34-adam", "resnet34-sgd", "resnet50-adam", "resnet50-sgd", "resnetrs101-adam"):
        assert f'"{name}"' in whole
