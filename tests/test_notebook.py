"""The notebook for a course, from a zip of photos to the submission, run as a kernel runs it."""

import csv
import json
import zipfile

import pytest

from tests.test_docs import ROOT

NOTEBOOK = ROOT / "examples" / "course.ipynb"
SMALL = (
    "model.backbone=test_resnet rules.backbones=null data.image_size_px=32 training.max_epochs=1 training.batch_size=8"
)


@pytest.mark.slow
def test_the_notebook_goes_from_a_zip_to_the_submission_and_again_without_training(tmp_path, make_photos, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    counts = {"train/cat": 8, "train/dog": 8, "val/cat": 4, "val/dog": 4, "test": 3}
    photos = make_photos(tmp_path / "course", counts)
    archive, work, kept = tmp_path / "photos.zip", tmp_path / "work", tmp_path / "kept"
    with zipfile.ZipFile(archive, "w") as made:
        for place in sorted(photos.rglob("*.png")):
            made.write(place, f"course/{place.relative_to(photos)}")
    monkeypatch.setenv("COURSE_ARCHIVE", str(archive))
    monkeypatch.setenv("COURSE_WORK", str(work))
    monkeypatch.setenv("COURSE_KEPT", str(kept))
    monkeypatch.setenv("COURSE_WEIGHTS", "none")
    monkeypatch.setenv("COURSE_OVERRIDES", f"{SMALL} data.leaks=allow")
    for _ in range(2):
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbformat.validate(notebook)
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
        shown = json.dumps([cell.get("outputs", []) for cell in notebook.cells])
    assert "<iframe srcdoc=" in shown and "upload" in shown and "resnetrs101-adam" in shown
    table = (work / "table" / "table.md").read_text(encoding="utf-8")
    assert all(name in table for name in ("resnet34-adam", "resnet34-sgd", "resnet50-adam", "resnet50-sgd"))
    with zipfile.ZipFile(kept / "submission.zip") as submission:
        rows = list(csv.reader(submission.read("prediction.csv").decode("utf-8").splitlines()))
    assert rows[0] == ["image_name", "pred_label"] and [row[0] for row in rows[1:]] == ["000", "001", "002"]
    assert {row[1] for row in rows[1:]} <= {"cat", "dog"}
    assert [place.name for place in kept.iterdir() if (place / "bundle").is_dir()]


def test_the_notebook_has_no_outputs_and_names_all_recipes_of_the_table():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    whole = "".join("".join(cell["source"]) for cell in code)
    for name in ("resnet34-adam", "resnet34-sgd", "resnet50-adam", "resnet50-sgd", "resnetrs101-adam"):
        assert f'"{name}"' in whole
