"""Tables of labels: every way that people have them gives the same labels, and what is unclear is refused."""

import json
import os
import unicodedata

import pytest

from fieldguide.data.look.find import find_photos
from fieldguide.data.look.listed_rules import listed_findings, listed_problems
from fieldguide.data.look.scan import summary
from fieldguide.data.look.source import as_source
from fieldguide.errors import PhotosError, UsageError
from tests.data.table.variants import LABELS, TEXTS, parquet


@pytest.fixture
def photos(tmp_path):
    """photos("a/1.jpg", ...): a folder with these files, which nobody opens."""

    def make(*names):
        for name in names or LABELS:
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).touch()
        return tmp_path / "photos"

    return make


def read(root, content, name="labels.csv", columns=None, inside=False):
    """The folder of photos that a table makes."""
    path = (root if inside else root.parent) / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return find_photos(as_source(path, None if inside else root, columns))


def labels(folder):
    return {photo.file: photo.class_name for photo in folder.photos}


def refused(root, content, **options):
    with pytest.raises((UsageError, PhotosError)) as caught:
        read(root, content, **options)
    return str(caught.value)


@pytest.mark.parametrize("variant", TEXTS)
@pytest.mark.parametrize("inside", [True, False], ids=["beside the photos", "elsewhere"])
def test_every_way_to_write_a_table_gives_the_same_labels(photos, variant, inside):
    name, content = TEXTS[variant]
    found = read(photos(), content, name, inside=inside)
    assert labels(found) == LABELS and {photo.part for photo in found.photos} == {"train"}
    assert not found.listed.missing and not found.listed.unlabelled and not found.listed.two_labels
    assert ("Latin-1" in variant) == any("read as Latin-1" in sentence for sentence in found.sentences)


def test_parquet_gives_the_same_labels(photos, tmp_path):
    root = photos()
    parquet(tmp_path / "a.parquet")
    assert labels(find_photos(as_source(tmp_path / "a.parquet", root))) == LABELS


@pytest.mark.parametrize("variant", [name for name in TEXTS if "folders" not in name])
def test_a_table_of_a_nested_folder_needs_no_folders_in_its_names(photos, variant):
    root = photos(*(f"2024/{file}" for file in LABELS))
    found = read(root, TEXTS[variant][1], TEXTS[variant][0])
    assert labels(found) == {f"2024/{file}": label for file, label in LABELS.items()}


def test_which_columns_were_used_is_said_in_one_sentence(photos):
    content = "image,species,station,split,notes\na.jpg,fox,s1,train,x\nb.jpg,owl,s2,val,y\nc.jpg,owl,s2,Testing,\n"
    found = read(photos("a.jpg", "b.jpg", "c.jpg"), content)
    assert summary(found).endswith("; photos from image, labels from species, parts from split, groups from station")
    assert [photo.part for photo in found.photos] == ["train", "val", "test"]
    assert found.has_validation and found.test_is_labelled and found.groups == [["b.jpg", "c.jpg"]]


def test_columns_can_be_told(photos):
    content = "image,species,label,camera\na.jpg,fox,x,c1\nb.jpg,owl,y,c1\n"
    root = photos("a.jpg", "b.jpg")
    assert "species and label" not in refused(root, content, columns="label=species,group=camera,part=nothing")
    assert "label and species" in refused(root, content).replace("species and label", "label and species")
    found = read(root, content, columns="label=species,group=camera")
    assert labels(found) == {"a.jpg": "fox", "b.jpg": "owl"} and found.groups == [["a.jpg", "b.jpg"]]
    assert "no such column; there are image, species, label, camera" in refused(root, content, columns="label=kind")
    assert "expected such as label=species" in refused(root, content, columns="lable=species")
    by_number = read(root, "a.jpg,fox,x\nb.jpg,owl,y\n", columns="label=2")
    assert labels(by_number) == {"a.jpg": "fox", "b.jpg": "owl"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty; expected a heading"),
        ("file,label\n", "has a heading and no rows"),
        ("file,label\na.jpg,fox\nb.jpg,owl,old\n", "line 3: expected 2 columns as in the first line, got 3"),
        ('file,label\n"a.jpg","a\nfox"\nb.jpg,owl,old\n', "line 4: expected 2 columns"),
        ("what,ever\nq,fox\nr,owl\n", "line 1: is no heading that is known and names no photo here"),
        ("file,healthy,rust,scab\na.jpg,0,1,0\nb.jpg,1,0,0\n", "no column for the labels: expected label"),
        ("file,label\n,fox\na.jpg,owl\n", "line 2: a label (fox) without a photo's name"),
        ("file,label,split\na.jpg,fox,train\nb.jpg,owl,3\n", "line 3: b.jpg: split is '3'; expected train, val or te"),
        ("file,label,split\na.jpg,fox,train\na.jpg,fox,val\n", "has two parts, train in line 2 and val in line 3"),
        ("file,label\nx.jpg,fox\ny.jpg,owl\n", "no photo of 2 rows is below"),
        ("file,label\n1.jpg,fox\n", "line 2: 1.jpg could be c/1.jpg or d/1.jpg"),
        ("file,label\n1,fox\n", "line 2: 1 could be c/1.jpg or d/1.jpg"),
        ("a.jpg;1,5\nb.jpg;2,5\n", "line 1 could be separated by a comma or a semicolon"),
        ("file,label,label\na.jpg,fox,owl\n", "two columns are called label"),
        (b"file,label\n\x00\x01\x02\x00,fox\n", "is not a table of text"),
        (b"PK\x03\x04nothing", "is an Excel workbook or a zip"),
        (b"PAR1nothing", "cannot be read as Parquet"),
        ("[1, 2]", "expected JSON lines, a list of objects, or COCO"),
        ('{"images": [], "annotations": [{"image_id": 3}]}', "annotation 1 is of image 3, which is not there"),
    ],
)
def test_what_is_unclear_is_refused_with_the_line_and_what_was_expected(photos, content, told):
    assert told in refused(photos("a.jpg", "b.jpg", "c/1.jpg", "d/1.jpg"), content)


def test_photos_that_table_and_folder_disagree_about_are_named_and_counted(photos):
    root = photos("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    found = read(root, "file,label\na.jpg,fox\nb.jpg,owl\nb.jpg,fox\ngone.jpg,fox\nc.jpg,\ne.jpg,owl\ne.jpg,owl\n")
    assert labels(found) == {"a.jpg": "fox", "e.jpg": "owl"}
    assert found.listed.missing == ("line 5: gone.jpg",) and found.listed.unlabelled == ("c.jpg", "d.jpg")
    assert found.listed.two_labels == ("b.jpg: owl in line 3, fox in line 4",)
    kinds = {finding.kind: finding.severity for finding in listed_findings(found)}
    assert kinds == {"missing_photo": "harm", "listed_two_labels": "harm", "unlabelled": "note"}
    problems, remarks = listed_problems(found, "refuse", "refuse", "refuse")
    assert len(problems) == 3 and not remarks
    assert problems[0].endswith("  line 5: gone.jpg\nAdd them, or correct the names, or leave them out: --set "
                                "data.missing=exclude")  # fmt: skip
    problems, remarks = listed_problems(found, "exclude", "exclude", "exclude")
    assert not problems and [remark.names for remark in remarks] == [
        found.listed.missing, found.listed.unlabelled, found.listed.two_labels,
    ]  # fmt: skip


def test_what_lies_in_other_folders_beside_a_table_is_not_its_business(photos):
    root = photos("images/a.jpg", "images/b.jpg", "images/c.jpg", "runs/first/gallery/1.png")
    found = read(root, "file,label\nimages/a.jpg,fox\nimages/b.jpg,owl\n", inside=True)
    assert found.listed.unlabelled == ("images/c.jpg",)


def test_rows_that_a_split_excludes_are_left_out_and_counted(photos):
    found = read(photos("a.jpg", "b.jpg"), "file,class,part\na.jpg,fox,val\nb.jpg,owl,excluded\n")
    assert labels(found) == {"a.jpg": "fox"} and found.listed.left_out == 1 and not found.listed.unlabelled


def test_test_rows_may_have_no_labels_at_all(photos):
    content = "file,label,part\na.jpg,fox,train\nb.jpg,,test\nc.jpg,,test\n"
    found = read(photos("a.jpg", "b.jpg", "c.jpg"), content)
    assert not found.test_is_labelled and len(found.part("test")) == 2
    some = read(found.root, content.replace("b.jpg,,", "b.jpg,owl,"))
    assert some.test_is_labelled and len(some.part("test")) == 1 and some.listed.unlabelled == ("c.jpg",)


def test_absolute_names_of_this_machine_need_no_folder(photos, tmp_path):
    root = photos("a/1.jpg", "b/1.jpg", "b/2.jpg")
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "labels.csv"
    table.write_text(f"file,label\n{root}/a/1.jpg,fox\n{root}/b/1.jpg,owl\n")
    found = find_photos(as_source(table))
    assert labels(found) == {"a/1.jpg": "fox", "b/1.jpg": "owl"} and found.root == root
    assert found.listed.unlabelled == ("b/2.jpg",)


def test_moved_folders_are_found_by_what_all_names_share(photos):
    root = photos("pictures/cat/1.jpg", "pictures/dog/1.jpg")
    found = read(root, "file,label\nD:\\old\\cat\\1.jpg,x\nD:\\old\\dog\\1.jpg,y\n")
    assert labels(found) == {"pictures/cat/1.jpg": "x", "pictures/dog/1.jpg": "y"}
    # a folder that contradicts is another photo
    assert "no photo of 2 rows" in refused(root, "file,label\nowl/1.jpg,x\nfox/1.jpg,y\n")


def test_accents_of_a_mac_are_those_of_others(photos):
    name = unicodedata.normalize("NFD", "Bär.jpg")
    found = read(photos(name, "b.jpg"), "file,label\nBär.jpg,x\nb.jpg,y\n")
    assert sorted(labels(found).values()) == ["x", "y"]


def test_types_of_parquet_and_json_become_text(photos, tmp_path):
    import polars

    root = photos("a.jpg", "b.jpg")
    polars.DataFrame({"file": ["a.jpg", "b.jpg"], "label": [7, 8]}).write_parquet(tmp_path / "n.parquet")
    assert labels(find_photos(as_source(tmp_path / "n.parquet", root))) == {"a.jpg": "7", "b.jpg": "8"}
    text = json.dumps({"file": "a.jpg", "label": True}) + "\n" + json.dumps({"file": "b.jpg", "label": "007"}) + "\n"
    assert set(labels(read(root, text, "t.jsonl")).values()) == {"true", "007"}


def test_a_table_of_coco_has_its_places_as_groups_and_two_animals_are_two_labels(photos):
    images = [{"id": n, "file_name": f"{n}.jpg", "location": f"L{n % 2}", "seq_id": "s"} for n in range(4)]
    animals = [{"image_id": n, "category_id": n % 2} for n in range(3)] + [{"image_id": 0, "category_id": 1}]
    data = {
        "images": images,
        "annotations": animals,
        "categories": [{"id": 0, "name": "fox"}, {"id": 1, "name": "owl"}],
    }
    found = read(photos("0.jpg", "1.jpg", "2.jpg", "3.jpg"), json.dumps(data), "caltech.json")
    assert labels(found) == {"1.jpg": "owl", "2.jpg": "fox"}
    assert len(found.listed.two_labels) == 1 and found.listed.unlabelled == ("3.jpg",)
    assert found.photos[0].group == "L1"


def test_a_folder_takes_no_columns_and_a_file_that_is_no_table_is_told(photos, tmp_path):
    root = photos("cat/a.jpg", "dog/b.jpg")
    with pytest.raises(UsageError, match="columns label=x: only for a table of labels"):
        find_photos(as_source(root, None, "label=x"))
    with pytest.raises(UsageError, match="is a file; give the folder that holds the photos, a table of labels"):
        find_photos(as_source(root / "cat/a.jpg"))
    table = tmp_path / "a.csv"
    table.write_text("file,label\na,b\n")
    with pytest.raises(UsageError, match="nowhere: there is no such folder"):
        find_photos(as_source(table, tmp_path / "nowhere"))
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UsageError, match=r"pipe\.csv: is a file; give"):
        find_photos(as_source(tmp_path / "pipe.csv"))
