import pytest

from fieldguide.data.look.groups import groups_by_pattern, joined, problem_with_pattern
from fieldguide.data.look.inspect import Inspected
from fieldguide.data.look.scan import Photo
from fieldguide.data.split.make import make_split
from fieldguide.data.split.partition import group_numbers, read_split, write_split
from fieldguide.errors import PhotosError


def inspected(*files, hashes=None):
    """Photos by name, `part/class/name`; each of its own content unless `hashes` says otherwise."""
    made = []
    for file in files:
        part, class_name, name = file.split("/")
        made.append(Inspected(Photo(None, file, part, class_name), (hashes or {}).get(file, f"hash of {name}{file}")))
    return made


def thirty(*classes):
    return [f"train/{name}/{number:02d}.jpg" for name in classes for number in range(30)]


def split(photos, groups=(), seed=0, has_validation=False, leaks="refuse", torn=()):
    made, remarks = make_split(
        photos, seed=seed, validation_share=0.2, has_validation=has_validation, leaks=leaks, groups=groups, torn=torn
    )
    return made, [remark.sentence for remark in remarks]


def parts(made):
    return {row.file: row.part for row in made.rows}


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_never_in_two_parts(seed):
    files = thirty("ant", "bee")
    groups = [files[start : start + 3] for start in range(0, 30, 3)] + [[files[31], files[5], files[40]]]
    made, _ = split(inspected(*files), groups, seed)
    part = parts(made)
    for group in joined(groups):
        assert len({part[file] for file in group}) == 1
    assert sum(value == "val" for value in part.values()) >= 9


def test_groups_are_joined_with_photos_of_the_same_content():
    files = thirty("ant", "bee")
    same = {files[3]: "x", files[4]: "x", files[20]: "y", files[21]: "y"}
    for seed in range(8):
        part = parts(split(inspected(*files, hashes=same), [[files[4], files[20]]], seed)[0])
        assert len({part[files[place]] for place in (3, 4, 20, 21)}) == 1


def test_without_groups_the_split_is_as_it_was():
    photos = inspected(*thirty("ant", "bee"))
    assert split(photos)[0] == split(photos, [])[0] == split(photos, [["train/ant/00.jpg"], ["not/there/x.jpg"]])[0]


def test_a_group_that_is_a_whole_class_stays_in_training_and_is_named():
    files = thirty("ant", "bee")
    made, remarks = split(inspected(*files), [files[:30]])
    assert {row.class_name for row in made.part("val")} == {"bee"}
    assert "without validation photos" in remarks[0] and "ant" in remarks[0]


def test_where_every_class_is_one_group_nothing_can_be_set_apart_and_the_message_says_so():
    files = thirty("ant", "bee")
    with pytest.raises(PhotosError, match="each class is one group"):
        split(inspected(*files), [files[:30], files[30:]])


def given():
    return inspected(*thirty("ant", "bee"), "val/ant/x.jpg", "val/bee/y.jpg")


def test_a_group_that_the_folders_tear_apart_is_told():
    made, remarks = split(given(), [["val/ant/x.jpg", "train/ant/03.jpg"]], has_validation=True)
    assert parts(made)["train/ant/03.jpg"] == "train"
    assert remarks[0].startswith("1 training photo near a val or test photo")


def test_dropping_leaks_drops_the_training_photos_of_a_torn_group():
    made, remarks = split(given(), [["val/ant/x.jpg", "train/ant/03.jpg"]], has_validation=True, leaks="drop")
    row = next(row for row in made.rows if row.file == "train/ant/03.jpg")
    assert (row.part, row.reason) == ("excluded", "belongs with val/ant/x.jpg")
    assert remarks[0].startswith("1 training photo dropped")


def test_pairs_across_parts_are_leaks_though_no_group_holds_them_and_each_names_its_photo():
    torn = [["train/ant/03.jpg", "val/ant/x.jpg"], ["val/bee/y.jpg", "val/ant/x.jpg", "train/ant/04.jpg"]]
    made, remarks = split(given(), has_validation=True, torn=torn)
    assert "excluded" not in parts(made).values() and remarks[0].startswith(
        "2 training photos near a val or test photo"
    )
    made, remarks = split(given(), has_validation=True, torn=torn, leaks="drop")
    assert {row.file: row.reason for row in made.rows if row.part == "excluded"} == {
        "train/ant/03.jpg": "belongs with val/ant/x.jpg",
        "train/ant/04.jpg": "belongs with val/bee/y.jpg",
    }
    assert remarks[0].startswith("2 training photos dropped")


def test_what_a_torn_pair_is_in_a_burst_with_leaks_too_and_what_is_in_none_stays():
    burst, torn = ["train/ant/03.jpg", "train/ant/04.jpg"], [["train/ant/03.jpg", "val/bee/y.jpg"]]
    made, _ = split(
        given(), [burst, ["train/ant/06.jpg", "train/ant/07.jpg"]], has_validation=True, torn=torn, leaks="drop"
    )
    assert {row.file: row.reason for row in made.rows if row.part == "excluded"} == dict.fromkeys(
        burst, "belongs with val/bee/y.jpg"
    )


def test_a_torn_pair_keeps_nothing_together_in_a_split_that_is_drawn():
    files = thirty("ant", "bee")
    photos = inspected(*files, "test/ant/x.jpg")
    torn = [[file, "test/ant/x.jpg"] for file in files[11:15]]
    plain, drawn = (split(photos, torn=each)[0] for each in ((), torn))
    assert drawn == plain and {parts(drawn)[file] for file in files[11:15]} == {"train", "val"}
    dropped, _ = split(photos, torn=torn, leaks="drop")
    assert {parts(dropped)[file] for file in files[11:15]} == {"excluded"}


def test_a_pattern_groups_by_file_name_across_folders():
    files = ["train/a/fox7_001.jpg", "train/b/fox7_002.jpg", "train/a/fox8_001.jpg", "train/a/owl.jpg"]
    assert groups_by_pattern(files, r"(?P<group>.+)_\d+") == [files[:2]]


def test_a_photo_that_the_pattern_does_not_match_is_alone():
    assert groups_by_pattern(["a/owl.jpg", "b/owl.jpg"], r"(?P<group>.+)_\d+") == []
    assert groups_by_pattern(["a/_1.jpg", "b/_2.jpg"], r"(?P<group>.*)_\d+") == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("(?P<group>", "is not a regular expression"), (r"(.+)_\d+", "has no group named 'group'")],
)
def test_a_bad_pattern_is_told_in_a_sentence(pattern, words):
    assert words in problem_with_pattern(pattern) and pattern.replace("\\", "\\\\") in problem_with_pattern(pattern)


def test_a_good_pattern_has_no_problem():
    assert problem_with_pattern(r"(?P<group>.+)_\d+") is None


def test_sets_that_overlap_are_joined_over_others():
    assert joined([[1, 2], [3], [4, 5], [2, 5], []]) == [[1, 2, 4, 5], [3]]


def test_what_belongs_together_is_kept_with_the_split_and_numbered(tmp_path):
    files = [f"train/{name}/{number}.jpg" for name in "ab" for number in range(6)]
    made, _ = split(inspected(*files), [files[:3], [files[8], files[7]]])
    group = {row.file: row.group for row in made.rows}
    assert {file: name for file, name in group.items() if name} == {
        **dict.fromkeys(files[:3], files[0]), **dict.fromkeys((files[7], files[8]), files[7]),
    }  # fmt: skip
    write_split(tmp_path / "split.csv", made)
    assert read_split(tmp_path / "split.csv") == made
    numbers = group_numbers(made.rows)
    assert len(set(numbers.tolist())) == 9 and len(set(numbers[:3].tolist())) == 1
    alone, _ = split(inspected(*files))
    write_split(tmp_path / "split.csv", alone)
    assert (tmp_path / "split.csv").read_text().startswith("file,class,part,content_hash,reason\n")
    assert read_split(tmp_path / "split.csv") == alone and group_numbers(alone.rows) is None
