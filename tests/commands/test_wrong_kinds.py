"""What is no path is told in words, and a command says where it wrote."""

import pytest
from typer.testing import CliRunner

import fieldguide
from fieldguide.cli import app
from fieldguide.errors import UsageError


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda run: fieldguide.train(None), "photos: must be a path, not NoneType"),
        (lambda run: fieldguide.train("photos", photos_folder=3), "photos_folder: must be a path, not int"),
        (lambda run: fieldguide.check(None), "photos: must be a path, not NoneType"),
        (lambda run: fieldguide.experiment(7, ["resnet34-adam"], "runs"), "photos: must be a path, not int"),
        (lambda run: fieldguide.evaluate(run, None), "photos: must be a path, not NoneType"),
        (
            lambda run: fieldguide.evaluate(None, "photos"),
            "run: must be a run's folder or a list of them, not NoneType",
        ),
        (lambda run: fieldguide.predict(run, None), "images: must be paths, bytes or open files, not NoneType"),
        (lambda run: fieldguide.predict(run, [None]), "images: must be paths, bytes or open files, not NoneType"),
    ],
)
def test_what_is_no_path_is_told_in_words(trained, call, told):
    with pytest.raises(UsageError, match=told):
        call(trained[1].path)


@pytest.mark.parametrize(
    ("command", "ending", "said"),
    [
        (["check", "PHOTOS", "--html"], "html", "all findings:"),
        (["check", "PHOTOS", "--json"], "json", "all findings:"),
        (["compare", "RUN", "--html"], "html", "table:"), (["compare", "RUN", "--csv"], "csv", "table:"),
        (["evaluate", "RUN", "PHOTOS", "--part", "val", "--json"], "json", "figures:"),
    ],
)  # fmt: skip
def test_a_command_says_where_it_wrote(trained, tmp_path, monkeypatch, command, ending, said):
    monkeypatch.chdir(tmp_path)
    places = {"PHOTOS": str(trained[0]), "RUN": str(trained[1].path)}
    done = CliRunner().invoke(app, [places.get(word, word) for word in [*command, f"x.{ending}"]])
    assert f"{said} x.{ending}" in done.output and (tmp_path / f"x.{ending}").is_file()
