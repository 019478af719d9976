"""What a person reads, held against the program and against itself."""

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

import fieldguide
from fieldguide.cli import app
from fieldguide.recipe import schema

ROOT = Path(__file__).parent.parent
SECTIONS = {
    "": schema.Recipe, "model.": schema.Model, "data.": schema.Data, "split.": schema.Split,
    "augmentation.": schema.Augmentation, "augmentation.policies.NAME.": schema.Policy, "training.": schema.Training,
    "training.phases.N.": schema.Phase, "training.rounds.": schema.Rounds, "training.plateau.": schema.Plateau,
    "rules.": schema.Rules,
}  # fmt: skip
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md"])
OF_USERS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
OF_OTHER_PROGRAMS = {
    *("--shm-size", "--init", "--read-only", "--rm", "--tmpfs", "--build-arg"),  # docker's
    "--data-binary",  # curl's
    "--no-deps",  # pip's
    *("--standalone", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"),  # torchrun's
    *("--head", "--ray-client-server-port"),  # ray start's
    *("--amp", "--amp-dtype", "--channels-last", "--layer-decay", "--torchcompile"),  # timm's train.py
}

names = functools.partial(pytest.mark.parametrize, "page", ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(text: str) -> Iterator[str]:
    """Paragraphs and items of lists, each as one string; without code, tables, headings and comments."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.MULTILINE | re.DOTALL)
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        begins = re.match(r"\s*([-*]|\d+\.) ", line)
        ends = not line.strip() or line.startswith(("|", "#")) or (line.startswith("    ") and not lines)
        if (begins or ends) and lines:
            yield " ".join(lines)
            lines = []
        if not ends:
            lines.append(line.strip())


def anchors(page: Path) -> set[str]:
    """The names by which GitHub links to a page's headings."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: dict[str, int] = {}
    result = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        result.add(f"{name}-{found[name]}" if name in found else name)
        found[name] = found.get(name, 0) + 1
    return result


def commands() -> dict[str, set[str]]:
    """The options of every command of the program by its words, such as `recipes show`."""
    found, waiting = {}, [((), typer.main.get_command(app))]
    while waiting:
        words, command = waiting.pop()
        found[" ".join(words)] = {option for taken in command.params for option in taken.opts} | {"-h", "--help"}
        waiting += [((*words, name), inner) for name, inner in getattr(command, "commands", {}).items()]
    return found


def test_every_field_of_a_recipe_is_documented_and_no_other():
    tables = re.findall(r"^\| field \| value \|.*\n((?:\|.*\n)+)", (ROOT / "docs/recipes.md").read_text(), re.MULTILINE)
    written = set(re.findall(r"^\| `([\w.]+)` \|", "".join(tables), re.MULTILINE))
    expected = {
        prefix + name
        for prefix, section in SECTIONS.items()
        for name, field in section.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel))
    }
    expected -= {"training.rounds"}  # a section of its own
    assert written == expected


@names(PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


@names(OF_USERS)
def test_no_paragraph_is_longer_than_90_words(page):
    long = [block for block in blocks(page.read_text(encoding="utf-8")) if len(block.split()) > 90]
    assert not long, f"{len(long[0].split())} words: {long[0]}"


def test_paragraphs_are_counted_and_code_and_tables_are_not():
    text = "# Head\n\none two\nthree\n- four\n  five\n- six\n\n| a | b |\n\n    code\n\n```\nmore code\n```\n1. seven\n"
    assert list(blocks(text)) == ["one two three", "- four five", "- six", "1. seven"]


def test_the_readme_is_short_and_shows_both_ways_on_its_first_screen():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = "\n".join(lines[:24])
    assert len(lines) <= 150
    assert "$ fieldguide train" in first and "fieldguide.train(" in first and "docs/images/curves.png" in first


def test_the_readme_names_every_command_and_links_to_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in (name for name in commands() if name and " " not in name):
        assert re.search(rf"fieldguide {command}\b", text), command
    for page in ROOT.glob("docs/*.md"):
        assert f"](docs/{page.name}" in text, page.name


@names(PAGES)
def test_every_command_that_is_named_exists(page):
    known = commands()
    for line in re.findall(
        r"(?:^\s*\$ |^    |`)fieldguide ([a-z][^`\n]*)", page.read_text(encoding="utf-8"), re.MULTILINE
    ):
        words = line.split()
        assert words[0] in known, line
        if words[0] == "recipes" and len(words) > 1 and words[1].isalpha():
            assert " ".join(words[:2]) in known, line


@names(OF_USERS)
def test_every_option_that_is_named_exists(page):
    ours = set().union(*commands().values())
    theirs = {  # of benchmarks, whose pages say what was run
        option
        for file in (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("benchmarks/peers/*.py"))  # not those of an environment
        for option in re.findall(r"\"(--[a-z][\w-]*)\"", file.read_text(encoding="utf-8"))
    }
    text = page.read_text(encoding="utf-8")
    written = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", re.sub(r"\]\([^)]*\)", "", text)))
    unknown = written - ours - OF_OTHER_PROGRAMS
    says_what_was_run = page.stem in ("accuracy", "performance", "check", "processes", "scale", "serve")
    assert unknown <= (theirs if says_what_was_run else set())


@names(OF_USERS)
def test_options_stand_beside_commands_that_take_them(page):
    known = commands()
    for line in re.findall(r"^\$ fieldguide ([a-z].*)$", page.read_text(encoding="utf-8"), re.MULTILINE):
        words = line.partition(" # ")[0].split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known[name], line


@names(OF_USERS)
def test_python_in_docs_can_be_read_and_uses_public_names_and_arguments(page):
    text = page.read_text(encoding="utf-8")
    for code in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func)
            if re.fullmatch(r"fieldguide\.\w+", name):
                public = name.partition(".")[2]
                assert public in fieldguide.__all__, name
                taken = inspect.signature(getattr(fieldguide, public)).parameters
                assert {keyword.arg for keyword in call.keywords} <= set(taken), ast.unparse(call)


def test_no_document_and_no_code_names_a_registry_or_a_path_of_a_machine():
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        if (
            not path.is_file()
            or parts[0] in (".git", "build", "runs")
            or ".venv" in parts
            or path.suffix not in (".md", ".py", ".toml", ".txt", ".yaml")
        ):
            continue
        if path == Path(__file__):
            continue
        text = path.read_text(encoding="utf-8")
        assert "pypi.org" not in text and "/work/" not in text and "/root/" not in text, path
