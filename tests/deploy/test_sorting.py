"""Photos into folders by class: no class and no name of a photo leads out of the folder."""

from pathlib import Path

import pytest

from fieldguide.deploy.sorting import sort_into
from fieldguide.deploy.unfinished import Row

CLASSES = {
    "fox": "fox", "mammal/fox": "mammal/fox", "..": "_", ".": "_-2", "../../x": "_/_/x", "/etc": "_/etc", "": "_-3",
    "C:\\x": "C__x", "a\\..\\b": "a_.._b", "a\nb": "a_b", "a\0b": "a_b-2", "a_b": "a_b-3", "unsure": "unsure",
}  # fmt: skip


@pytest.mark.parametrize("how", ["copy", "link"])
def test_each_class_has_a_folder_of_its_own_inside(tmp_path, how):
    (tmp_path / "1.png").write_bytes(b"photo")
    rows = [Row("", f"{number}.png", name, "ok", "") for number, name in enumerate(CLASSES)]
    rows.append(Row("", "less.png", "fox", "unsure", ""))
    folder = tmp_path / "place/sorted"
    assert sort_into(folder, rows, {row.name: tmp_path / "1.png" for row in rows}, list(CLASSES), how) == len(rows)
    wanted = {Path(place) / f"{number}.png" for number, place in enumerate(CLASSES.values())}
    made = {path.relative_to(folder) for path in tmp_path.rglob("*.png") if path.parent != tmp_path}
    assert made == wanted | {Path("_unsure/less.png")}
