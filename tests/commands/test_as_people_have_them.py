"""Photos and labels as people have them, one line per case: none ends in a traceback, a hang or a silent guess."""

import json
import os
import signal
import tarfile
import zipfile

import pytest

from fieldguide import evaluate
from fieldguide.commands import evaluate as evaluating
from fieldguide.commands import predict as predicting
from fieldguide.commands.trial import judge_run
from fieldguide.errors import PhotosError
from tests.commands.as_people_have_them import (
    CLASSES,
    EACH,
    FILES,
    SAME,
    SETTINGS,
    Case,
    folders,
    goes_through,
    lines,
    many,
    photo,
    table,
    write,
)  # fmt: skip
from tests.commands.by_the_report import train

LEFT_FOLDERS = (
    "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".AppleDouble",
)  # fmt: skip
LEFT_FILES = ("Thumbs.db", "desktop.ini", "._fox0.png", ".DS_Store")
PLAIN = "file,label"
SECONDS = 300


def archive(name, files, kind="zip"):
    """Photos in a .zip or .tar."""

    def build(root):
        root.mkdir(exist_ok=True)
        if kind == "zip":
            with zipfile.ZipFile(root / name, "w") as made:
                for inside, content in files().items():
                    made.writestr(inside, content)
        else:
            write(root / "unpacked", files())
            with tarfile.open(root / name, "w:gz") as made:
                made.add(root / "unpacked", ".")
        return {"photos": root / name}

    return build


def flipped(root):
    """A zip with a photo that is damaged in it."""
    path = archive("photos.zip", lambda: many({"fox": "fox", "owl": "owl"}))(root)["photos"]
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    return {"photos": path}


def damaged(root):
    write(root, {"photos.zip": b"PK\3\4 this is no zip"})
    return {"photos": root / "photos.zip"}


def linked(root):
    given = folders(("elsewhere/fox", "elsewhere/owl"))(root)
    (root / "set").mkdir()
    for name in CLASSES:
        (root / "set" / name).symlink_to(given["photos"] / "elsewhere" / name)
    return {"photos": root / "set"}


def output(name, content=None, *, link="", kind="file"):
    """An output of that name, which may exist, be a link, a folder or a pipe."""

    def build(root):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            write(root, {link or name: content})
        if link:
            path.symlink_to(link)
        if kind == "folder":
            path.mkdir()
        if kind == "pipe":
            os.mkfifo(path)
        return path

    return build


COCO = json.dumps(
    {
        "images": [{"id": str(n), "file_name": file, "location": n // 2} for n, (file, _) in enumerate(FILES)],
        "annotations": [{"image_id": str(n), "category_id": CLASSES.index(c)} for n, (_, c) in enumerate(FILES)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
    }
)
SITES = {"north/fox": "fox", "south/fox": "fox", "north/owl": "owl", "south/owl": "owl"}
TWICE = {"fox": 2 * EACH, "owl": 2 * EACH}
AS_SITES = {"north": 2 * EACH, "south": 2 * EACH}
PARTS = ("train", "val", "test")
LAYOUTS = [
    Case("a folder per class", folders()),
    Case("train and classes", folders(("train/fox", "train/owl"))),
    Case("train, val and test", folders([f"{p}/{c}" for p in PARTS for c in CLASSES]), classes={"fox": 12, "owl": 12}, judged=8, tested=8),
    Case("parts in capitals", folders(("Train/fox", "Train/owl", "VALID/fox", "VALID/owl")), classes=TWICE, judged=8),
    Case("a flat test folder", folders({"train/fox": "fox", "train/owl": "owl", "test": "fox"}), says="without labels", rows=12),
    Case("sites that hold species", folders(SITES), says=r"2 classes \(north, south\).* would be 2 \(fox, owl\)", classes=AS_SITES, unjudged="does not know: north, south"),
    Case("sites that hold species, the last folder", folders(SITES), says="2 groups", classes=TWICE, settings=("data.class_folder=last", "split.group_by=first_folder"), unjudged="does not know: north, south"),
    Case("sites as groups, but also as classes", folders(SITES), refused="split.group_by first_folder: the first folder is the class", classes=AS_SITES, settings=("split.group_by=first_folder",), unjudged="does not know: north, south"),
    Case("groups of species, the whole path", folders(("mammal/fox", "bird/owl")), classes={"mammal/fox": 4, "bird/owl": 4}, settings=("data.class_folder=path",), unjudged="does not know: bird, mammal"),
    Case("one class with folders", folders({"fox/2023": "fox", "fox/2024": "fox", "owl": "owl"}), says="fox/ holds only folders.*2 classes.*3", classes={"fox": 8, "owl": 4}),
    Case("a class called train", folders({"train": "owl", "bus": "fox"}), says="train/ is used as a class", classes={"train": 4, "bus": 4}, unjudged="does not know: bus, train"),
    Case("a class called test", folders({"test": "owl", "fox": "fox"}), says="test/ is used as a class", classes={"test": 4, "fox": 4}, unjudged="does not know: test; .* judge the other photos"),
    Case("only test and classes", folders(("test/fox", "test/owl")), refused="but no train/; put the training photos"),
    Case("Training and Testing", folders([f"{p}/{c}" for p in ("Training", "Testing") for c in CLASSES]), refused="so they are parts, not classes; call them", rows=16, unjudged=SAME),
    Case("no folders at all", folders({"": "fox"}), refused="no photos in class folders; expected", rows=4, unjudged="no photos in class folders"),
    Case("no folders, but a table", folders({"": "fox"}, ["metadata.csv"]), refused="There is a table in it; if it has the labels: give", rows=4, unjudged="There is a table in it"),
    Case("one class", folders(("fox",)), refused="at least 2 classes", classes={"fox": 4}),
    Case("an empty class", folders(CLASSES, ["elk/notes.txt"]), refused="classes without any photo: elk"),
    Case("unpacked into a folder of its own", folders({"photos/fox": "fox", "photos/owl": "owl"}), refused=r"at least 2 classes.*\(photos\)", classes={"photos": 8}, unjudged="does not know: photos"),
    Case("hidden photos", folders({"fox": "fox", "owl": "owl", "owl/.old": "owl"}), says=r"begin with a dot: owl/\.old/ \(4 photos\)"),
    Case("links to folders", linked),
    Case("notes beside the photos", folders(CLASSES, ["README.md", "fox/notes.txt"]), says="2 other files ignored"),
    Case("a class in two spellings", folders({"Fox": "fox", "fox ": "fox", "owl": "owl"}), says="differ only in .*; if they are one class, give it one name", classes={"Fox": 4, "fox ": 4, "owl": 4}, unjudged=r"Fox \(did you mean fox\?\)"),
    Case("photos beside the classes", folders({"fox": "fox", "owl": "owl", "": "fox"}), says="4 photos outside class folders ignored", rows=12),
    *(Case(f"{name} in a class", folders(CLASSES, [f"fox/{name}/fox0.png/thumb.png"]), says=rf"leave these behind: \S*{name[:4].replace('$', '.')}.*1 photo") for name in LEFT_FOLDERS),
    *(Case(f"{name} beside classes", folders(CLASSES, [f"{name}/fox/fox0.png"]), says="leave these behind") for name in LEFT_FOLDERS[:3]),
    *(Case(f"{name} in a class", folders(CLASSES, [f"fox/{name}"]), says="leave these behind") for name in LEFT_FILES),
]  # fmt: skip
TABLES = [
    Case("a table beside the photos", table(lines("{f},{c}", PLAIN)), says="photos from file, labels from label"),
    Case("a table elsewhere", table(lines("{f},{c}", PLAIN), inside=False)),
    Case("a German Excel", table(lines("{f};{c}", "Datei;Art", "\r\n").encode("utf-8-sig")), says="labels from Art"),
    Case("Excel's Unicode text", table(lines("{f}\t{c}", PLAIN.replace(",", "\t"), "\r\n").encode("utf-16"), "t.txt")),
    Case("Latin-1", table(lines("{f},{c}", "file,label,note").replace("fox\n", "fox,Bär\n").replace("owl\n", "owl,\n").encode("cp1252")), says="read as Latin-1"),
    Case("ImageNet's list", table(lines("{f} {c}"), "train.txt")),
    Case("Hugging Face's metadata.csv", table(lines("{f},{c}", "file_name,label"), "metadata.csv")),
    Case("Kaggle's ids and a folder", table(lines("{n},{c}", "id,breed"), "train.csv", place="images"), says="photos from id, labels from breed"),
    Case("COCO Camera Traps", table(COCO, "traps.json"), says="groups from location.*\n.*4 groups"),
    Case("JSON lines", table("".join(json.dumps({"image": f, "class": c}) + "\n" for f, c in FILES), "m.jsonl")),
    Case("parts and groups", table(lines("{f},{c},{p},{g}", "file,label,split,site")), says="parts from split, groups from site", judged=2),
    Case("a split of a run", table(lines("{f},{c},{p},abc,,", "file,class,part,content_hash,reason,group"), "split.csv"), judged=2),
    Case("an index first, no heading", table(lines("{i},{f},{c}")), says="photos from column 2, labels from column 3"),
    Case("Windows paths of another machine", table(lines("C:\\Users\\anna\\set\\{f},{c}", PLAIN))),
    Case("columns that are told", table(lines("{f},{i},{c},{g}", "image,label,animal,camera"), columns="label=animal,group=camera"), says="labels from animal, groups from camera"),
    Case("two columns that could be the label", table(lines("{f},{i},{c}", "image,category,species")), refused="category and species could both be the labels", unjudged=SAME),
    Case("a label for each column", table(lines("{f},0,1", "image,fox,owl")), refused="no column for the labels: expected label", unjudged=SAME),
    Case("a line with a column more", table(lines("{f},{c}", PLAIN) + "fox0.png,fox,yes\n"), refused="line 10: expected 2 columns as in the first line, got 3", unjudged=SAME),
    Case("a photo that is missing", table(lines("{f},{c}", PLAIN) + "gone.png,fox\n"), refused="line 10: gone.png"),
    Case("a photo that is missing, left out", table(lines("{f},{c}", PLAIN) + "gone.png,fox\n"), says="1 photo of the table is not in.*left out:\n  line 10", settings=("data.missing=exclude",)),
    Case("a photo that has no label", table(lines("{f},{c}", PLAIN).replace("fox3.png,fox\n", "")), says="1 photo has no label in the table; left out:\n  fox3.png", classes={"fox": 3, "owl": 4}, rows=8),
    Case("a photo that has no label, refused", table(lines("{f},{c}", PLAIN).replace("owl3.png,owl", "owl3.png,")), refused="1 photo has no label in the table", classes={"fox": 4, "owl": 3}, settings=("data.unlabelled=refuse", "split.seed=1"), rows=8),
    Case("a photo with two labels", table(lines("{f},{c}", PLAIN) + "fox3.png,owl\n"), refused="fox3.png: fox in line 5, owl in line 10", classes={"fox": 3, "owl": 4}, rows=8, unjudged=SAME),
    Case("a photo with two labels, left out", table(lines("{f},{c}", PLAIN) + "fox3.png,owl\n"), says="two labels in the table; left out", classes={"fox": 3, "owl": 4}, settings=("data.two_labels=exclude",), rows=8, unjudged="fox3.png: fox in line 5, owl in line 10"),
    Case("photos that are elsewhere", table(lines("else/{c}/{f},{c}", PLAIN), place="images"), refused="Say where the photos are: ", unjudged=SAME),
    Case("labels with slashes", table(lines("{f},mammal/{c}", PLAIN)), classes={"mammal/fox": 4, "mammal/owl": 4}, unjudged="does not know: mammal/fox"),
    Case("labels that lead elsewhere", table(lines("{f},../..\\{c}", PLAIN)), classes={"../..\\fox": 4, "../..\\owl": 4}, unjudged="does not know"),
    Case("a quotation mark that is not closed", table(lines("{f},{c}", PLAIN).replace("png,owl", 'png,"owl', 1).replace("owl3.png,owl", 'owl3.png,owl"')), refused=r"line 6: owl0.png: 'owl\\nowl1", unjudged=SAME),
    Case("a bell in a label", table(lines("{f},{c}", PLAIN).replace("png,owl", "png,o\awl", 1)), refused=r"line 6: owl0.png: 'o\\x07wl'", unjudged=SAME),
    Case("a workbook", table(b"PK\3\4 xl/workbook.xml", "labels.csv"), refused="is an Excel workbook or a zip; save the table as CSV", unjudged=SAME),
    Case("an empty table", table(""), refused="is empty; expected a heading", unjudged=SAME),
]  # fmt: skip
ARCHIVES = [
    Case("a zip", archive("photos.zip", lambda: many({"fox": "fox", "owl": "owl"})), says="8 photos, read in place"),
    Case("a zip of a Mac", archive("photos.zip", lambda: many({"set/fox": "fox", "set/owl": "owl"}) | {"__MACOSX/set/fox/._fox0.png": b"x"}), says="read in place"),
    Case("a tar", archive("photos.tar.gz", lambda: many({"fox": "fox", "owl": "owl"}), "tar"), says="8 photos, unpacked"),
    Case("a zip called .tar", archive("photos.tar", lambda: many({"fox": "fox", "owl": "owl"})), says="8 photos, read in place"),
    Case("a zip with its table in it", archive("photos.zip", lambda: many({"": "fox"}) | {"metadata.csv": b"file_name,label"}), refused="no photos in class folders", unjudged=SAME, rows=4),
    Case("a zip that leads elsewhere", archive("photos.zip", lambda: many({"fox": "fox", "owl": "owl"}) | {"../../evil.png": b"x"}), says="1 file with a path out of the archive ignored"),
    Case("a zip with a damaged photo", flipped, refused="fox0.png is damaged in its archive .its checksum", classes={"fox": 3, "owl": 4}, rows=8, damaged=1, judged=7),
    Case("a zip with a damaged photo, left out", flipped, says="1 photo unreadable; excluded", classes={"fox": 3, "owl": 4}, settings=("data.unreadable=exclude",), rows=8, damaged=1, judged=7),
    Case("a damaged zip", damaged, refused="is damaged or of an unknown kind", unread=SAME, unjudged=SAME),
    Case("a zip without photos", archive("photos.zip", lambda: {"readme.txt": b"x"}), refused="holds no photos", unread=SAME, unjudged=SAME),
]  # fmt: skip

OUTPUTS = [
    Case("an output with spaces and umlauts", folders(), output=output("Ergebnis für Bär.csv")),
    Case("an output that is there", folders(), output=output("old.csv", b"image,label\n")),
    Case("a link as output", folders(), output=output("link.csv", b"old", link="real.csv")),
    Case("a link to a file that is not there yet", folders(), output=output("link.csv", link="real.csv")),
    Case("a folder as output", folders(), output=output("x.csv", kind="folder"), unwritten="x.csv: is a folder"),
    Case("a pipe without reader as output", folders(), output=output("x.csv", kind="pipe"), unwritten="pipe"),
    Case("a photo as output", folders(), output=lambda root: root.parent / "photos/fox/fox0.png", unwritten="photo"),
    Case("a table as output", table(lines("{f},{c}", PLAIN)), output=lambda root: root.parent / "photos/labels.csv", unwritten="labels.csv"),
    Case("a file as the output's folder", folders(), output=lambda root: root.parent / "photos/fox/fox0.png/x.csv", unwritten="fox0.png"),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model of foxes and owls, trained on other photos than those of the cases."""
    root = tmp_path_factory.mktemp("model")
    write(root / "photos", many({f"{name}/{at}": name for at in range(3, 5) for name in CLASSES}))
    return train(root / "photos", output=root / "run", overrides=SETTINGS, quiet=True).path


@pytest.fixture(autouse=True)
def loaded_once(model, monkeypatch):
    """All cases share one loaded model; their own runs are loaded as ever."""
    real, known = evaluating.load_runs, {}

    def load(run, *options, **more):
        if run != model:
            return real(run, *options, **more)
        if not known:
            known[run] = real(run, "cpu", "plain")
        return known[run]

    monkeypatch.setattr(evaluating, "load_runs", load)
    monkeypatch.setattr(predicting, "load_runs", load)


@pytest.fixture(autouse=True)
def without_pages(monkeypatch):
    """Half of a tiny training's time is its report's, which other tests look at."""
    for name in ("draw_curves", "keep_for_report", "write_report"):
        monkeypatch.setattr(judge_run, name, lambda *_: None)


@pytest.fixture(autouse=True)
def ended_by_a_clock():
    """A case that hangs fails."""

    def end(*_):
        raise TimeoutError(f"a case took over {SECONDS} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.parametrize("case", [*LAYOUTS, *TABLES, *ARCHIVES, *OUTPUTS], ids=lambda case: case.name)
def test_a_case_goes_through_check_train_predict_and_evaluate(case, tmp_path, model):
    goes_through(case, tmp_path, model)


def test_there_are_sixty_cases_with_names_of_their_own():
    names = [case.name for case in (*LAYOUTS, *TABLES, *ARCHIVES, *OUTPUTS)]
    assert len(names) >= 60 and len(set(names)) == len(names)


def test_an_evaluation_takes_test_folders_alone_and_names_near_classes(tmp_path, model):
    write(tmp_path / "photos", many({"test/fox": "fox", "test/Owls": "owl"}))
    with pytest.raises(PhotosError, match=r"model does not know: Owls \(did you mean owl\?\); it knows 2"):
        evaluate(model, tmp_path / "photos", quiet=True)
    found = evaluate(model, tmp_path / "photos", skip_unknown=True, quiet=True)
    assert found.part == "test" and found.figures["images"] == EACH
    assert any("4 photos not judged: 1 class that the model does not know: Owls" in text for text in found.remarks)
    (tmp_path / "photos/test/Owls").rename(tmp_path / "photos/test/owl")
    assert evaluate(model, tmp_path / "photos", quiet=True).figures["images"] == 2 * EACH


def test_labels_are_read_for_a_folder_without_any_folders(tmp_path, model):
    write(tmp_path / "new", {file: photo(name, int(file[3])) for file, name in FILES})
    (tmp_path / "labels.csv").write_text(lines("{n};{c}", "photo;what"))
    found = evaluate(model, tmp_path / "new", labels=tmp_path / "labels.csv", quiet=True)
    assert found.part == "test" and found.figures["images"] == len(FILES)
