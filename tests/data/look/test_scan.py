"""Which photos a folder holds: every layout, and every odd thing that a folder can hold."""

import os
import subprocess

import pytest

from fieldguide.data.look.files import images_below, problem_with_folder
from fieldguide.data.look.scan import natural, scan, summary
from fieldguide.errors import PhotosError, UsageError
from tests.data.photo_folders import make_photo, make_photos


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def files(folder, part):
    return [photo.file for photo in folder.part(part)]


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_validation_photos_are_found_under_each_of_their_names(photos, name):
    found = scan(photos({"train/cat": 2, "train/dog": 1, f"{name}/cat": 1, f"{name}/dog": 1}))
    assert found.has_validation and found.classes == ["cat", "dog"]
    assert files(found, "val") == [f"{name}/cat/000.png", f"{name}/dog/000.png"]
    assert [photo.class_name for photo in found.part("train")] == ["cat", "cat", "dog"]
    assert summary(found) == "3 photos of 2 classes to train on, 2 for validation"


def test_train_alone_is_enough(photos):
    found = scan(photos({"train/cat": 2, "train/dog": 1}))
    assert not found.has_validation and not found.test_is_labelled and found.part("val") == []
    assert "validation is taken from these" in summary(found)


def test_class_folders_can_stand_alone(photos):
    found = scan(photos({"cat": 2, "dog": 1}))
    assert files(found, "train") == ["cat/000.png", "cat/001.png", "dog/000.png"] and not found.has_validation


def test_a_flat_test_folder_has_no_labels_and_one_by_class_has(photos):
    flat = scan(photos({"train/cat": 1, "train/dog": 1, "test": 2}))
    assert not flat.test_is_labelled and [photo.class_name for photo in flat.part("test")] == [None, None]
    assert summary(flat).endswith("2 for test (without labels)")
    labelled = scan(make_photos(flat.root.parent / "other", {"train/cat": 1, "train/dog": 1, "test/dog": 2}))
    assert labelled.test_is_labelled and [photo.class_name for photo in labelled.part("test")] == ["dog", "dog"]


def test_what_a_mac_leaves_behind_takes_no_labels_from_a_test_folder(photos):
    root = touch(photos({"train/cat": 1, "train/dog": 1, "test/dog": 2}), "test/._a.jpg", "test/.DS_Store")
    found = scan(root)
    assert found.test_is_labelled and found.others == 0
    assert found.sentences == ["ignored, because systems leave these behind: .DS_Store (1 file), ._* (1 file)"]


def test_test_folders_that_are_no_classes_are_unlabelled_and_it_is_said(photos):
    found = scan(photos({"train/cat": 1, "train/dog": 1, "test/monday": 2}))
    assert not found.test_is_labelled and len(found.part("test")) == 2
    assert "they are not class folders" in found.sentences[0]
    found = scan(touch(found.root, "test/cat/a.jpg", "test/b.jpg"))
    assert not found.test_is_labelled and "there are photos beside them" in found.sentences[0]


def test_test_classes_without_a_photo_are_no_labels_and_it_is_said(photos):
    found = scan(touch(photos({"train/cat": 1, "train/dog": 1, "test/cat": 0}), "test/dog/a.cr2", "test/dog/b.txt"))
    assert not found.test_is_labelled and found.part("test") == [] and found.others == 2
    assert found.sentences == ["test/ has class folders, but no file in them has an image ending"]


def test_a_test_class_without_training_photos_is_said(photos):
    found = scan(photos({"train/cat": 1, "train/dog": 1, "test/dog": 1, "test/bird": 1}))
    assert found.sentences == ["test/ has classes without training photos: bird"]


def test_the_class_is_the_first_folder_below_the_part_and_deeper_ones_belong_to_it(photos):
    found = scan(photos({"train/cat/black/old": 1, "train/cat/white": 1, "train/dog/train/cat": 1}))
    assert {photo.file: photo.class_name for photo in found.photos} == {
        "train/cat/black/old/000.png": "cat",
        "train/cat/white/000.png": "cat",
        "train/dog/train/cat/000.png": "dog",
    }


def test_endings_count_in_any_case_and_all_others_are_counted_and_said(photos):
    endings = ["JPG", "Jpeg", "PNG", "webp", "BMP", "tif", "TIFF", "gif"]
    root = touch(photos({"train/dog": 1}), *(f"train/cat/a{i}.{ending}" for i, ending in enumerate(endings)))
    touch(root, "train/cat/notes.txt", "train/cat/movie.mp4", "train/cat/jpg", "train/list.csv", "README.md")
    found = scan(root)
    assert len(found.part("train")) == 9 and found.others == 5
    assert "; 5 other files ignored" in summary(found)


def test_photos_in_no_class_folder_are_counted_and_said(photos):
    root = touch(photos({"train/cat": 1, "train/dog": 1, "val/cat": 1}), "train/x.jpg", "val/y.jpg", "z.jpg")
    found = scan(root)
    assert set(found.strays) == {"train/x.jpg", "val/y.jpg", "z.jpg"} and len(found.photos) == 3
    assert "3 photos outside class folders ignored, such as train/x.jpg" in summary(found)


def test_hidden_files_and_folders_are_passed_over(photos):
    root = touch(photos({"cat": 1, "dog": 1}), "cat/._000.jpg", "cat/.cache/b.jpg", ".thumbs/a.jpg", "dog/.x")
    found = scan(root)
    assert files(found, "train") == ["cat/000.png", "dog/000.png"] and found.classes == ["cat", "dog"]
    assert found.others == 1


def test_an_empty_class_folder_is_named(photos):
    root = touch(photos({"train/cat": 1, "train/dog": 1, "train/bird": 0}), "train/fish/notes.txt")
    assert scan(root).empty_classes == ("bird", "fish")


def test_a_train_folder_decides_the_layout(photos):
    found = scan(photos({"train/cat": 1, "train/dog": 1, "bird": 3}))
    assert found.classes == ["cat", "dog"] and found.sentences == ["bird/ beside train/ is not used"]


def test_without_train_a_folder_called_test_is_a_class_and_it_is_said(photos):
    found = scan(photos({"cat": 1, "test": 1}))
    assert found.classes == ["cat", "test"] and "test/ is used as a class" in found.sentences[0]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"val/cat": 1, "test": 1}, "has test/, val/ but no train/"),
        ({"train/cat": 1, "val/cat": 1, "valid/cat": 1}, "both look like the val photos; rename one"),
        ({"train/cat": 1, "Train/cat": 1}, "both look like the train photos; rename one"),
        ({"train": 2, "val/cat": 1}, "no photos in class folders; expected"),
        ({"train/cat": 1, "val": 2}, "val: no photos in class folders; fill it or remove it"),
        ({"a/b": 0}, "no photos in class folders"),
        ({"": 2}, "2 photos outside class folders"),
    ],
)
def test_a_layout_that_cannot_be_understood_is_refused_in_words(photos, counts, words):
    with pytest.raises(PhotosError) as caught:
        scan(photos(counts))
    assert words in str(caught.value)


def test_a_missing_folder_and_a_file_are_wrong_usage(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(UsageError, match="no: there is no such folder"):
        scan(tmp_path / "no")
    with pytest.raises(UsageError, match=r"a\.jpg: is a file; give the folder"):
        scan(tmp_path / "a.jpg")
    assert "cannot be read (File name too long)" in problem_with_folder(tmp_path / ("x" * 300))


def test_links_in_circles_bring_no_photo_twice_and_none_of_another_class(photos):
    root = photos({"train/cat": 2, "train/dog": 1, "val/cat": 1, "val/dog": 1})
    (root / "train/cat/self").symlink_to(".")
    (root / "train/cat/up").symlink_to("..")
    (root / "train/dog/root").symlink_to(root)
    (root / "train/dog/nowhere").symlink_to("nowhere")
    (root / "train/dog/loop").symlink_to("loop")
    found = scan(root)
    assert files(found, "train") == ["train/cat/000.png", "train/cat/001.png", "train/dog/000.png"]
    assert found.others == 2


def test_a_link_to_a_folder_or_photo_elsewhere_is_followed(photos, tmp_path):
    root = photos({"cat": 1, "dog": 1})
    make_photos(tmp_path / "elsewhere", {"more": 2})
    (root / "cat/linked").symlink_to(tmp_path / "elsewhere/more")
    (root / "bird").symlink_to(tmp_path / "elsewhere/more")
    (root / "dog/gone.jpg").symlink_to("nowhere.jpg")
    found = scan(root)
    assert files(found, "train") == [
        "bird/000.png",
        "bird/001.png",
        "cat/000.png",
        "cat/linked/000.png",
        "cat/linked/001.png",
        "dog/000.png",
        "dog/gone.jpg",  # named later as one that cannot be read
    ]


def test_very_deep_folders_are_walked(tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_050):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("a.jpg", os.O_CREAT, dir_fd=here))
    os.close(here)
    images, others, _ = images_below(tmp_path)
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # shutil's own walk is too shallow for it
    assert len(images) == 1 and others == 0


def test_odd_names_come_through_as_valid_utf_8(tmp_path):
    for name in [b"caf\xe9", "käse 🧀".encode(), b"-rf", b"a\nb", b'a,b"c', b" x "]:
        folder = os.path.join(os.fsencode(tmp_path), b"photos", name)
        os.makedirs(folder)
        make_photo("x", 0).save(os.fsdecode(os.path.join(folder, name + b".png")))
    found = scan(tmp_path / "photos")
    assert set(found.classes) == {r"caf\xe9", "käse 🧀", "-rf", "a\nb", 'a,b"c', " x "}
    for photo in found.photos:
        photo.file.encode("utf-8")
        assert photo.path.is_file()


def test_two_files_that_would_be_written_alike_are_refused(tmp_path):
    for name in (b"\xe9.png", rb"\xe9.png"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), b"photos/cat"), exist_ok=True)
        make_photo("x", 0).save(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"photos/cat", name)))
    with pytest.raises(PhotosError, match="two files have the same printable name"):
        scan(tmp_path / "photos")


def test_two_classes_that_would_be_written_alike_are_refused(tmp_path):
    for place, name in enumerate(("\udcff", "\\xff")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{place}.jpg").touch()
    with pytest.raises(PhotosError, match=r"two classes have the same printable name, \\xff"):
        scan(tmp_path)


def test_a_folder_called_like_a_photo_is_a_folder_and_a_link_to_itself_a_file(tmp_path):
    (tmp_path / "a" / "x.jpg").mkdir(parents=True)
    (tmp_path / "a" / "x.jpg" / "in.jpg").touch()
    (tmp_path / "a" / "ring.jpg").symlink_to("ring.jpg")
    assert [photo.file for photo in scan(tmp_path).photos] == ["a/ring.jpg", "a/x.jpg/in.jpg"]


def test_the_order_does_not_depend_on_the_file_system(photos):
    root = photos({f"train/{number}": 1 for number in (10, 2, 0, 1)})
    assert scan(root).classes == ["0", "1", "10", "2"]
    assert sorted(["10", "2", "b", "B1", "a"], key=natural) == ["2", "10", "a", "b", "B1"]


def test_a_class_folder_that_begins_with_a_dot_is_named(tmp_path, make_photos):
    from fieldguide.data.look.scan import scan

    folder = scan(make_photos(tmp_path / "photos", {"ash": 2, "oak": 2, ".elm": 3}))
    (remark,) = folder.sentences
    assert "names begin with a dot: .elm/ (3 photos)" in remark and folder.classes == ["ash", "oak"]


def test_photos_in_a_hidden_folder_at_any_depth_are_counted_and_named(tmp_path, make_photos):
    root = make_photos(tmp_path / "photos", {"ash": 2, "oak": 2, "ash/.new": 5, "oak/2024/.trash/.old": 1})
    (root / "ash" / ".git").mkdir()
    (root / "ash" / ".git" / "config").touch()
    (root / "ash" / ".loop").symlink_to("..")
    folder = scan(root)
    (remark,) = folder.sentences
    assert remark.startswith("ignored, because their names begin with a dot: ash/.new/ (5 photos)")
    assert "oak/2024/.trash/ (1 photo)" in remark and ".git" not in remark and ".loop" not in remark
    assert len(folder.photos) == 4 and folder.others == 0


def test_a_hidden_folder_that_nobody_may_look_into_stops_nothing(tmp_path, make_photos, monkeypatch):
    root = make_photos(tmp_path / "photos", {"ash": 2, "oak": 2, "ash/.private": 1})
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith(".private"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert "ash/.private/ (cannot be read)" in scan(root).sentences[0]


@pytest.mark.parametrize(("first", "second"), [("Training", "Testing"), ("train_images", "val_images")])
def test_parts_under_other_names_are_no_classes(tmp_path, make_photos, first, second):
    root = make_photos(tmp_path, {f"{part}/{name}": 2 for part in (first, second) for name in ("glioma", "healthy")})
    with pytest.raises(
        PhotosError, match=r"hold the same folders \(glioma, healthy\).*call them train/, val/ and test/"
    ):
        scan(root)


def test_classes_that_hold_the_same_folders_are_told_and_used(tmp_path, make_photos):
    root = make_photos(tmp_path, {f"{name}/{side}": 2 for name in ("cat", "dog") for side in ("left", "right")})
    folder = scan(root)
    assert folder.classes == ["cat", "dog"]
    assert folder.sentences == [
        "cat/, dog/ hold the same folders (left, right) and are used as classes; if they are parts, call them "
        "train/, val/ and test/",
        "cat/, dog/ hold only folders. The first folder is used as the class: 2 classes (cat, dog). With the last one "
        "there would be 2 (left, right): --set data.class_folder=last; with the whole path 4 (cat/left, cat/right and "
        "2 more): --set data.class_folder=path",
    ]
    assert scan(make_photos(tmp_path / "one", {"cat/a": 1, "cat": 1, "dog/a": 1, "dog": 1})).sentences == []


GROCERIES = {"fruit/apple": 2, "fruit/pear": 1, "packages/milk/oat": 1, "packages/juice": 1, "vegetables/leek": 1}


@pytest.mark.parametrize(
    ("class_folder", "classes"),
    [
        ("first", ["fruit", "packages", "vegetables"]),
        ("last", ["apple", "juice", "leek", "oat", "pear"]),
        ("path", ["fruit/apple", "fruit/pear", "packages/juice", "packages/milk/oat", "vegetables/leek"]),
    ],
)
@pytest.mark.parametrize("top", ["", "train/"])
def test_the_class_is_the_folder_that_is_asked_for(photos, class_folder, classes, top):
    found = scan(photos({top + name: count for name, count in GROCERIES.items()}), class_folder)
    assert found.classes == classes and len(found.photos) == 6
    told = [sentence for sentence in found.sentences if "hold only folders" in sentence]
    assert len(told) == (class_folder == "first")
    if told:
        assert "3 classes (fruit, packages, vegetables). With the last one there would be 5 (apple, juice" in told[0]


def test_classes_of_test_are_read_as_those_of_train(photos):
    counts = {"train/a/cat": 1, "train/b/dog": 1, "test/c/cat": 1, "test/c/dog": 1}
    found = scan(photos(counts), "last")
    assert found.test_is_labelled and [photo.class_name for photo in found.part("test")] == ["cat", "dog"]
    assert found.sentences == []


def test_one_class_that_holds_only_folders_is_told_with_both_readings(photos):
    found = scan(photos({"cat": 1, "dog": 1, "bird/eagle": 1, "bird/owl": 1}))
    assert found.classes == ["bird", "cat", "dog"]
    assert found.sentences[0].startswith("bird/ holds only folders. The first folder is used as the class: 3 classes")
    assert "there would be 4 (cat, dog, eagle, owl)" in found.sentences[0]


def test_a_class_called_train_beside_other_classes_is_a_class(photos):
    found = scan(photos({"train": 2, "bus": 1, "test": 1}))
    assert found.classes == ["bus", "test", "train"] and len(found.photos) == 4
    assert [sentence.partition(" ")[0] for sentence in found.sentences] == ["test/", "train/"]
    assert all("is used as a class" in sentence for sentence in found.sentences)


def test_an_evaluation_needs_no_train_folder(photos):
    root = photos({"test/cat": 1, "test/dog": 2})
    found = scan(root, is_for_training=False)
    assert found.test_is_labelled and len(found.part("test")) == 3
    with pytest.raises(PhotosError, match="but no train/"):
        scan(root)


LEFT = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found", ".AppleDouble")


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("place", ["", "cat/", "train/cat/"])
def test_what_systems_leave_behind_is_no_class_and_no_photo(photos, name, place):
    top = "train/" if place.startswith("train") else ""
    root = touch(photos({f"{top}cat": 2, f"{top}dog": 1}), f"{place}{name}/000.png/thumb.jpg", f"{place}{name}/b.jpg")
    found = scan(root)
    assert found.classes == ["cat", "dog"] and len(found.photos) == 3
    assert found.sentences == [f"ignored, because systems leave these behind: {name}/ (1 folder with 2 photos)"]


def test_files_that_systems_leave_behind_are_counted_and_named(photos):
    root = touch(photos({"cat": 1, "dog": 1}), "cat/Thumbs.db", "dog/Thumbs.db", "desktop.ini", "cat/._000.png")
    found = scan(root)
    assert found.others == 0 and found.strays == ()
    assert found.sentences == [
        "ignored, because systems leave these behind: ._* (1 file), Thumbs.db (2 files), desktop.ini (1 file)"
    ]


def test_a_table_beside_photos_without_folders_is_named(photos):
    root = touch(photos({"": 2}), "metadata.csv")
    with pytest.raises(PhotosError, match=r"it has the labels: give .*metadata\.csv instead of the folder"):
        scan(root)
