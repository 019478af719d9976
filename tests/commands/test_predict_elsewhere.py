"""A prediction by many processes has the rows of the one by a single process, whatever is killed."""

import http.server
import json
import os
import shutil
import signal
import tarfile
import threading

import polars
import pytest

from fieldguide import UsageError, predict
from fieldguide.commands import predict_elsewhere
from fieldguide.commands.predict_elsewhere import _Loading
from fieldguide.deploy import shards, stored
from fieldguide.deploy.shards import HowRows, Manifest, Piece, ShardWriter, lethal_photos, part_name
from fieldguide.deploy.stored import Stored, below
from fieldguide.errors import Interrupted, MachineError

PHOTOS = 200
# Ray Data warns of its own settings
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]


@pytest.fixture(scope="module")
def many(trained, tmp_path_factory):
    """(folder of 200 photos, three of them damaged; run; rows of one process)."""
    folder, source = tmp_path_factory.mktemp("many") / "photos", trained[0] / "train"
    folder.mkdir()
    images = sorted(source.rglob("*.png"))
    for number in range(PHOTOS):
        shutil.copyfile(images[number % len(images)], folder / f"{number:03d}.png")
    for number in (3, 40, 199):
        (folder / f"{number:03d}.png").write_bytes(b"no photo")
    here = folder.parent / "here.parquet"
    predict(trained[1].path, folder, here, top=2, unsure_below=0.6, engine="plain", quiet=True)
    return folder, trained[1].path, polars.read_parquet(here)


HOW = {"top": 2, "unsure_below": 0.6, "engine": "plain", "quiet": True}


def rows_in(folder):
    """All rows of a folder of Parquet files, in the order of the files."""
    return polars.concat([polars.read_parquet(file) for file in sorted(folder.glob("*.parquet"))])


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(predict_elsewhere, "PIECE_PHOTOS", 32)


def writer(run, folder, batch_size=32):
    """What an actor has, in this process."""
    loaded = _Loading((str(run),), "cpu", "plain", "as-trained", False, None).load()
    return ShardWriter(loaded.predictor, folder, HowRows(2, 0.6, batch_size, PHOTOS), ())


@pytest.fixture
def killing(tmp_path, monkeypatch):
    """Each actor dies at photo 130, the first time; whatever reads photo 70 dies, each time."""
    (tmp_path / "at_start").mkdir()
    (tmp_path / "at_start/sitecustomize.py").write_text(
        "import os, pathlib\n"
        f"marks, real = pathlib.Path({str(tmp_path)!r}), os.open\n"
        "def opened(path, *given, **more):\n"
        "    name = os.path.basename(os.fspath(path))\n"
        "    if name == '070.png' or (name == '130.png' and not (marks / 'once').exists()):\n"
        "        (marks / ('once' if name == '130.png' else 'lethal')).touch()\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return real(path, *given, **more)\n"
        "os.open = opened\n"
    )
    at_start, real = str(tmp_path / "at_start"), predict_elsewhere._writer

    def writer(*given):
        import runpy
        import sys

        sys.path.insert(0, at_start)  # also of the child that looks for the photo
        runpy.run_path(f"{at_start}/sitecustomize.py")
        return real(*given)

    monkeypatch.setattr(predict_elsewhere, "_writer", writer)
    return tmp_path


@pytest.mark.slow
def test_killed_actors_cost_no_row_and_a_lethal_photo_costs_its_own(many, local_ray, killing, small_pieces, capsys):
    folder, run, here = many
    done = predict(run, folder, killing / "out", on="ray", **HOW | {"quiet": False})
    found = rows_in(killing / "out")
    assert (killing / "once").exists() and (killing / "lethal").exists()
    assert found["image"].to_list() == here["image"].to_list() and done.images == PHOTOS
    status = dict(zip(found["image"], found["status"], strict=True))
    assert status["070.png"] == f"failed: {shards.LETHAL}" and done.exit_code == 3 and len(done.failed) == 4
    batch = range(64, 96)  # the photos that are computed beside it, whose last bits may differ
    beside = [f"{number:03d}.png" for number in batch]
    assert found.filter(~polars.col("image").is_in(beside)).equals(here.filter(~polars.col("image").is_in(beside)))
    labels = found.filter(polars.col("image") != "070.png")["label"]
    assert labels.equals(here.filter(polars.col("image") != "070.png")["label"])
    assert not (killing / "out/_tries").exists()
    told = capsys.readouterr().out
    assert "1: ends the process that reads it" in told and f"{PHOTOS} rows in 7 files" in told


@pytest.mark.slow
def test_it_resumes_after_a_signal_and_gives_the_rows_of_one_process(
    many, local_ray, tmp_path, small_pieces, monkeypatch
):
    folder, run, here = many
    real = Manifest.add

    def add(self, written):
        real(self, written)
        if len(self.done) == 3:
            with self.path.open("a") as file:
                file.write('{"half of a l')
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Manifest, "add", add)
    with pytest.raises(Interrupted, match=r"96 of 200 rows are kept in .*/out; go on with: .* --resume"):
        predict(run, folder, tmp_path / "out", on="ray", **HOW)
    monkeypatch.setattr(Manifest, "add", real)
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.parquet")}
    with pytest.raises(UsageError, match="exists already; choose another folder, or go on with"):
        predict(run, folder, tmp_path / "out", on="ray", **HOW)
    with pytest.raises(UsageError, match="is of another command"):
        predict(run, folder, tmp_path / "out", on="ray", resume=True, **HOW | {"top": 1})
    done = predict(run, folder, tmp_path / "out", on="ray", resume=True, **HOW)
    assert done.images == PHOTOS and len(done.failed) == 3 and rows_in(tmp_path / "out").equals(here)
    entries = [json.loads(line) for line in (tmp_path / "out/_manifest.jsonl").read_text().splitlines()]
    first = {part_name(entry["number"]) for entry in entries[1:4]}
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("*.parquet")}
    assert len(after) == 7 and all(after[name] == kept[name] for name in first)


def test_photos_that_changed_are_done_again(many, tmp_path):
    photos, run = shutil.copytree(many[0], tmp_path / "photos"), many[1]
    (tmp_path / "out").mkdir()
    piece = Piece(0, ("a", "b"), (photos / "000.png", photos / "001.png"))
    written = writer(run, tmp_path / "out")(piece)
    manifest = Manifest(tmp_path / "out", "about")
    manifest.begin(32)
    manifest.add(written)
    again = Manifest(tmp_path / "out", "about")
    again.resume()
    assert again.done[0].photos == piece.stamp and again.piece_photos == 32 and again.engines == ["plain"]
    shutil.copyfile(photos / "002.png", photos / "001.png")
    assert again.done[0].photos != piece.stamp
    (tmp_path / "out" / part_name(0)).unlink()
    again.resume()
    assert not again.done


def test_a_piece_whose_process_ends_again_and_again_is_given_up(many, tmp_path):
    (tmp_path / "out/_tries").mkdir(parents=True)
    (tmp_path / "out/_tries/0").write_bytes(b"." * shards.MOST_LOST)
    piece = Piece(0, ("a",), (many[0] / "000.png",))
    with pytest.raises(MachineError, match=r"part-000000.parquet: its process ended 5 times"):
        writer(many[1], tmp_path / "out")(piece)
    assert writer(many[1], tmp_path / "out")(piece).rows == 1  # counted anew
    with pytest.raises(UsageError, match="choose a folder that all share"):
        writer(many[1], tmp_path / "missing")(piece)


@pytest.mark.slow
def test_a_process_of_their_own_finds_the_photos_that_end_it(many, killing, monkeypatch):
    monkeypatch.syspath_prepend(str(killing / "at_start"))
    (killing / "once").touch()
    names = (69, 70, 71, 3)
    assert lethal_photos([many[0] / f"{number:03d}.png" for number in names]) == {1}
    with pytest.raises(MachineError, match="ends before the first one"):
        lethal_photos([many[0] / "000.png"], ("false",))


@pytest.fixture(scope="module")
def storage(many):
    """(address, the failures so far): a server that gives 503 to every tenth request."""
    pytest.importorskip("aiohttp", reason="fsspec reads http:// by aiohttp")
    root, failures = many[0].parent, []
    with tarfile.open(root / "photos.tar", "w") as archive:
        archive.add(root / "photos", "photos")

    class Handler(http.server.SimpleHTTPRequestHandler):
        count = 0

        def __init__(self, *given, **more):
            super().__init__(*given, directory=str(root), **more)

        def do_GET(self):
            Handler.count += 1
            if Handler.count % 10 == 0:
                failures.append(self.path)
                self.send_error(503)
            else:
                super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", failures
        server.shutdown()


def test_archives_are_read_in_place_by_their_names(many, tmp_path):
    folder, run, here = many
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("070.png", "000.png", "003.png"):
            archive.add(folder / name, name)
        archive.add(__file__, "notes.txt")
    shutil.copy(tmp_path / "a.tar", tmp_path / "b.tar")
    found, others = below(f"file://{tmp_path}/a.tar", lambda name: name.suffix == ".png")
    assert [name for name, _ in found] == ["000.png", "003.png", "070.png"] and others == 1
    assert [photo.fetch() for _, photo in found] == [(folder / name).read_bytes() for name, _ in found]
    both, _ = below(f"file://{tmp_path}", lambda name: name.suffix == ".png")
    assert [name for name, _ in both][::3] == ["a.tar/000.png", "b.tar/000.png"]
    (tmp_path / "out").mkdir()
    piece = Piece(0, [name for name, _ in found], [photo for _, photo in found])
    writer(run, tmp_path / "out")(piece)
    rows = rows_in(tmp_path / "out")
    assert rows["label"].to_list() == here.filter(polars.col("image").is_in(rows["image"].implode()))["label"].to_list()
    assert rows["status"][1].startswith("failed: is not an image")


@pytest.mark.slow
def test_a_storage_that_fails_now_and_then_costs_no_row(many, storage, local_ray, tmp_path, small_pieces):
    address, failures = storage
    (tmp_path / "list.txt").write_text("".join(f"{address}/photos/{n:03d}.png\n" for n in range(PHOTOS)))
    done = predict(many[1], tmp_path / "list.txt", tmp_path / "out", on="ray", **HOW)
    found, here = rows_in(tmp_path / "out"), many[2]
    assert len(failures) >= PHOTOS // 10 and done.images == PHOTOS
    assert found.drop("image").equals(here.drop("image"))
    assert found["image"][7] == f"{address}/photos/007.png"


def test_a_photo_that_is_not_there_costs_its_row_and_a_storage_that_is_down_ends_it(storage, monkeypatch):
    monkeypatch.setattr(stored, "FIRST_WAIT_SECONDS", 0)
    from fieldguide.data.read.decode import UnreadableError

    with pytest.raises(UnreadableError, match="does not exist"):
        Stored(f"{storage[0]}/photos/none.png").fetch()
    with pytest.raises(MachineError, match=r"cannot be read, tried 6 times"):
        Stored("http://127.0.0.1:9/a.png").fetch()
    with pytest.raises(UsageError, match="nowhere://: cannot be opened"):
        below("nowhere://a", lambda _: True)


def test_what_only_one_process_can_do_is_refused(many, tmp_path, monkeypatch):
    folder, run, _ = many
    for options, words in (
        ({"format": "submission"}, "format: not with on"), ({"sort_into": tmp_path / "s"}, "sort_into: not with on"),
        ({"on": "slurm"}, "predictions run on Ray"), ({"on": "ray://a:10001"}, "on ray://a:10001: .*need a process on"),
        ({"cpus_per_actor": 0}, "cpus.per.actor: must be above 0"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            predict(run, folder, tmp_path / "out", **{"on": "ray", **HOW, **options})
    monkeypatch.setenv("RAY_ADDRESS", "ray://a:10001")
    with pytest.raises(UsageError, match="RAY_ADDRESS=ray://a:10001: predictions need a process on the cluster"):
        predict(run, folder, tmp_path / "out", on="ray", **HOW)
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(UsageError, match="takes paths and addresses"):
        predict(run, [b"photo"], tmp_path / "out", on="ray", **HOW)
    with pytest.raises(UsageError, match="are for on; leave them out"):
        predict(run, folder, tmp_path / "out", gpus_per_actor=1, **HOW)
    assert os.listdir(tmp_path) == []
