import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from fieldguide.recipe import schema

ROOT = Path(__file__).parent.parent
SECTIONS = {
    "": schema.Recipe, "model.": schema.Model, "data.": schema.Data, "split.": schema.Split,
    "augmentation.": schema.Augmentation, "augmentation.policies.NAME.": schema.Policy, "training.": schema.Training,
    "training.phases.N.": schema.Phase, "training.rounds.": schema.Rounds, "training.plateau.": schema.Plateau,
    "rules.": schema.Rules,
}  # fmt: skip


def test_every_field_of_a_recipe_is_documented_and_no_other():
    written = set(re.findall(r"^\| `([\w.]+)` \|", (ROOT / "docs/recipes.md").read_text(), re.MULTILINE))
    expected = {
        prefix + name
        for prefix, section in SECTIONS.items()
        for name, field in section.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    }
    expected -= {"training.rounds"}  # a section of its own
    assert written == expected


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "docs/ensembles.md",
        "docs/accuracy.md",
        "docs/photos.md",
        "docs/recipes.md",
        "docs/resume.md",
    ],
)
def test_links_lead_somewhere(name):
    page = ROOT / name
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if not t.startswith("http")]
    assert all((page.parent / target).exists() for target in targets), targets


def test_the_readme_names_every_command_and_shows_both_ways_on_its_first_screen():
    first = "\n".join((ROOT / "README.md").read_text().splitlines()[:24])
    assert "$ fieldguide train" in first and "fieldguide.train(" in first and "docs/images/curves.png" in first
    text = (ROOT / "README.md").read_text()
    for command in ("train", "evaluate", "predict", "experiment", "compare", "recipes"):
        assert f"$ fieldguide {command}" in text


def test_no_document_and_no_code_names_a_registry_or_a_path_of_a_machine():
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if (
            not path.is_file()
            or parts[0] in (".git", "runs")
            or ".venv" in parts
            or path.suffix not in (".md", ".py", ".toml", ".txt", ".yaml")
        ):
            continue
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        assert "pypi.org" not in text and "/work/" not in text and "/root/" not in text, path
