import os
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldguide.data.look import near
from fieldguide.data.look.check import check_photos
from fieldguide.data.look.findings import Kind, some
from fieldguide.data.look.looked_at import look_at
from fieldguide.data.look.scan import scan
from tests.data.look.test_facts import png_header, rotated_jpeg
from tests.data.scenes import cut, encoded, save, scaled, scene, write

DOCS = Path(__file__).parents[3] / "docs" / "check.md"


def checked(root):
    folder = scan(root)
    return check_photos(folder, look_at(folder.photos, 200, lambda _: None))


def found(root):
    """{(kind, part): files or classes} of all findings."""
    result = {}
    for finding in checked(root).findings:
        key = finding.kind, finding.part
        result.setdefault(key, []).append(sorted(finding.files) or list(finding.classes))
    return {key: value[0] if len(value) == 1 else sorted(value) for key, value in result.items()}


@pytest.fixture
def fill():
    """fill(root, "train/cat", 20): so many good photos, none like any other."""
    numbers = iter(range(1000, 10_000))

    def make(root, folder, count):
        for place in range(count):
            save(scene(next(numbers)), root / folder / f"good{place:02d}.jpg")

    return make


def clean(root, fill, classes=("ant", "bee")):
    for name in classes:
        for part, count in (("train", 20), ("val", 2), ("test", 2)):
            fill(root, f"{part}/{name}", count)
    return root


def test_good_photos_have_no_findings(tmp_path, fill):
    assert found(clean(tmp_path, fill)) == {}


def test_every_planted_fault_of_a_file_is_found_and_nothing_else(tmp_path, fill):
    ant = clean(tmp_path, fill) / "train" / "ant"
    write(b"", ant / "empty.jpg")
    write(b"no picture at all", ant / "words.png")
    write(encoded(scene(1))[:-900], ant / "cut.jpg")
    write(png_header(50_000, 50_000), ant / "bomb.png")
    write(b"\x89PNG\r\n\x1a\n" + b"\0" * 500, ant / "damaged.png")
    (ant / "nowhere.jpg").symlink_to(tmp_path / "gone")
    save(scene(2), ant / "lies.png", "JPEG")
    save(scene(3, (30, 24)), ant / "tiny.png")
    save(scene(4, (330, 60)), ant / "long.jpg")
    rotated_jpeg(ant / "turned.jpg")
    save(scene(5).convert("L"), ant / "gray.jpg")
    save(scene(6).convert("CMYK"), ant / "cmyk.jpg")
    deep = np.asarray(scene(7).convert("L")).astype(np.uint16) * 257
    save(Image.fromarray(deep), ant / "deep.tif")
    save(scene(8).convert("RGBA"), ant / "alpha.png")
    save(scene(9), ant / "moves.gif", save_all=True, append_images=[scene(10)])
    write(b"words", ant / "notes.txt")
    write(b"", ant / ".hidden")
    write(b"words", tmp_path / "README.md")
    save(scene(11), tmp_path / "train" / "stray.jpg")
    save(scene(12), ant / "=SUM(A1).jpg")

    def files(*names):
        return sorted(f"train/ant/{name}" for name in names)

    result = found(tmp_path)
    assert result.pop(("not_an_image", "train")) == [files("damaged.png"), files("words.png")]
    assert result == {
        ("unreadable", "train"): files("nowhere.jpg"),
        ("truncated", "train"): files("cut.jpg"),
        ("empty_file", "train"): files("empty.jpg"),
        ("bomb", "train"): files("bomb.png"),
        ("wrong_ending", "train"): files("lies.png"),
        ("tiny", "train"): files("tiny.png"),
        ("elongated", "train"): files("long.jpg"),
        ("exif_rotated", "train"): files("turned.jpg"),
        ("grayscale", "train"): files("gray.jpg", "deep.tif"),
        ("cmyk", "train"): files("cmyk.jpg"),
        ("sixteen_bit", "train"): files("deep.tif"),
        ("alpha", "train"): files("alpha.png"),
        ("animated", "train"): files("moves.gif"),
        ("other_files", ""): files("notes.txt"),
        ("stray_photos", ""): ["train/stray.jpg"],
        ("formula_name", ""): files("=SUM(A1).jpg"),
    }


def test_every_planted_duplicate_is_found_and_nothing_else(tmp_path, fill):
    clean(tmp_path, fill)
    large = [scene(number, (320, 240)) for number in range(20, 28)]
    plant = [
        (large[0], "train/ant/a0.jpg", "train/ant/b0.jpg"),
        (large[1], "train/ant/a1.jpg", "val/ant/b1.jpg"),
        (large[2], "train/ant/a2.jpg", "train/bee/b2.jpg"),
    ]
    for image, first, second in plant:
        save(image, tmp_path / first)
        save(image, tmp_path / second)
    save(large[3], tmp_path / "train/ant/a3.jpg")
    save(scaled(large[3], 0.6), tmp_path / "train/ant/b3.png")
    save(large[4], tmp_path / "train/ant/a4.jpg")
    save(cut(large[4], 0.03, 0, 0, 0.03), tmp_path / "val/ant/b4.jpg", quality=50)
    save(large[5], tmp_path / "train/ant/a5.jpg")
    save(scaled(large[5], 0.5), tmp_path / "test/bee/b5.jpg")
    assert found(tmp_path) == {
        ("same_photo", "train"): ["train/ant/a0.jpg", "train/ant/b0.jpg"],
        ("same_photo_across_parts", "train, val"): ["train/ant/a1.jpg", "val/ant/b1.jpg"],
        ("same_photo_two_labels", "train"): ["train/ant/a2.jpg", "train/bee/b2.jpg"],
        ("near_duplicate", "train"): ["train/ant/a3.jpg", "train/ant/b3.png"],
        ("near_duplicate_across_parts", "train, val"): ["train/ant/a4.jpg", "val/ant/b4.jpg"],
        ("near_duplicate_two_labels", "train, test"): ["test/bee/b5.jpg", "train/ant/a5.jpg"],
    }
    groups = checked(tmp_path).duplicates.file_groups
    assert sorted(map(sorted, groups)) == sorted(
        sorted(f"{part}/{name}/{letter}{number}.{ending}" for part, name, letter, number, ending in group)
        for group in (
            (("train", "ant", "a", 0, "jpg"), ("train", "ant", "b", 0, "jpg")),
            (("train", "ant", "a", 1, "jpg"), ("val", "ant", "b", 1, "jpg")),
            (("train", "ant", "a", 2, "jpg"), ("train", "bee", "b", 2, "jpg")),
            (("train", "ant", "a", 3, "jpg"), ("train", "ant", "b", 3, "png")),
            (("train", "ant", "a", 4, "jpg"), ("val", "ant", "b", 4, "jpg")),
            (("train", "ant", "a", 5, "jpg"), ("test", "bee", "b", 5, "jpg")),
        )
    )


def test_a_copy_in_an_unlabelled_test_folder_is_found(tmp_path, fill):
    for name in ("ant", "bee"):
        fill(tmp_path, f"train/{name}", 20)
        fill(tmp_path, f"val/{name}", 2)
    save(scene(1), tmp_path / "train/ant/x.jpg")
    save(scaled(scene(1), 2), tmp_path / "test/y.jpg")
    assert found(tmp_path) == {("near_duplicate_across_parts", "train, test"): ["test/y.jpg", "train/ant/x.jpg"]}


def test_a_copy_that_stands_twice_in_train_and_once_in_val_is_one_harmful_pair(tmp_path, fill):
    clean(tmp_path, fill)
    for name in ("x", "y"):
        save(scene(1), tmp_path / f"train/ant/{name}.jpg")
    save(scaled(scene(1), 2), tmp_path / "val/ant/z.jpg")
    assert found(tmp_path) == {
        ("same_photo", "train"): ["train/ant/x.jpg", "train/ant/y.jpg"],
        ("near_duplicate_across_parts", "train, val"): ["train/ant/x.jpg", "train/ant/y.jpg", "val/ant/z.jpg"],
    }


def test_a_long_chain_of_look_alikes_is_one_note_and_one_harm(tmp_path, fill):
    clean(tmp_path, fill)
    burst = scene(1, (320, 240))
    for number in range(12):
        part = "val" if number == 11 else "train"
        save(burst, tmp_path / part / "ant" / f"burst{number:02d}.jpg", quality=60 + 3 * number)
    kinds = Counter(finding.kind for finding in checked(tmp_path).findings)
    assert kinds == {"look_alikes": 1, "near_duplicate_across_parts": 1}
    assert checked(tmp_path).duplicates.file_groups == []


def test_every_fault_of_classes_is_found_and_nothing_else(tmp_path, fill):
    for name, count in (("1", 20), ("2", 20), ("10", 20), ("Elk", 20), ("élk", 20), ("e lk", 20), ("ox", 210)):
        fill(tmp_path, f"train/{name}", count)
    fill(tmp_path, "train/rare", 3)
    (tmp_path / "train" / "nothing").mkdir()
    for name in ("1", "2", "10", "Elk", "élk", "e lk", "rare", "unknown"):
        fill(tmp_path, f"val/{name}", 1)
    for name in ("1", "2", "10", "Elk", "élk", "ox", "rare", "stranger"):
        fill(tmp_path, f"test/{name}", 1)
    fill(tmp_path, "more/ox", 1)
    assert found(tmp_path) == {
        ("empty_class", "train"): ["nothing"],
        ("class_not_in_train", "val"): ["unknown"],
        ("class_not_in_train", "test"): ["stranger"],
        ("few_photos", "train"): ["rare"],
        ("imbalance", "train"): ["ox", "rare"],
        ("class_missing_in_val", "val"): ["ox"],
        ("class_missing_in_test", "test"): ["e lk"],
        ("similar_names", ""): ["e lk", "Elk", "élk"],
        ("numbers_as_text", ""): ["10", "2"],
        ("layout", ""): [],
    }


def test_without_val_and_test_a_class_must_have_a_photo_to_spare(tmp_path, fill):
    fill(tmp_path, "ant", 20)
    fill(tmp_path, "-bee", 1)
    save(scene(1), tmp_path / "cat" / "a.jpg")
    save(scaled(scene(1), 2), tmp_path / "cat" / "b.jpg")
    assert found(tmp_path) == {
        ("near_duplicate", "train"): ["cat/a.jpg", "cat/b.jpg"],
        ("class_too_small", "train"): ["-bee", "cat"],
        ("few_photos", "train"): ["-bee", "cat"],
        ("imbalance", "train"): ["ant", "-bee"],
        ("no_test", "test"): [],
        ("formula_name", ""): ["-bee"],
    }


def test_one_class_is_not_enough(tmp_path, fill):
    fill(tmp_path, "ant", 20)
    assert found(tmp_path)["one_class", "train"] == ["ant"]


def test_what_will_be_used_is_one_sentence(tmp_path, fill, monkeypatch):
    clean(tmp_path, fill)
    write(b"", tmp_path / "val/ant/empty.jpg")
    words = "40 photos of 2 classes to train on, 5 for validation, 4 for test; 1 of these cannot be read"
    assert checked(tmp_path).used == words
    monkeypatch.setattr(near, "MOST_COMPARED", 48)
    roughly = "; for near duplicates, each was compared only with photos that look alike roughly"
    assert checked(tmp_path).used == words + roughly


def test_only_what_harms_a_training_is_harm():
    notes = {"no_test", "few_photos", "grayscale", "similar_names", "near_duplicate", "formula_name"}
    assert all(Kind(kind).severity == "note" for kind in notes)
    harm = {"unreadable", "bomb", "near_duplicate_across_parts", "same_photo_two_labels", "class_not_in_train"}
    assert all(Kind(kind).severity == "harm" for kind in harm)


def test_the_docs_list_every_kind_with_its_severity_and_meaning():
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+?) \| .+ \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(kind.value, kind.severity, kind.meaning) for kind in Kind]


def test_a_long_list_is_cut_and_counted():
    assert some(["a", "b", "c"], 2) == "a, b and 1 more" and some(("a",)) == "a"


@pytest.mark.slow
@pytest.mark.skipif("FIELDGUIDE_TEST_PHOTOS" not in os.environ, reason="FIELDGUIDE_TEST_PHOTOS names no folder")
def test_caltechs_near_duplicates_across_parts_are_some_forty():
    """On Caltech-101's photos in train, val and test; every pair of the count below was looked at."""
    began = time.perf_counter()
    result = checked(Path(os.environ["FIELDGUIDE_TEST_PHOTOS"]))
    kinds = Counter(finding.kind for finding in result.findings)
    print(f"{time.perf_counter() - began:.0f} s, {dict(kinds)}")
    assert not any(kind.startswith("same_photo") for kind in kinds)
    assert 40 <= kinds["near_duplicate_across_parts"] <= 46
    assert 35 <= kinds["near_duplicate"] <= 42
    assert kinds["look_alikes"] == kinds["near_duplicate_two_labels"] == 0
