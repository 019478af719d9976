"""Predictions of many photos by many processes: pieces of the photos on a Ray cluster, each to a Parquet file."""

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fieldguide.cluster.jobs import SLURM, Share, demand_place
from fieldguide.cluster.ray_pieces import RayPieces, demand_place_for_pieces
from fieldguide.commands.judging.inputs import LISTS, Image, gather
from fieldguide.commands.judging.models import Loaded, Runs, identity_of, load_runs
from fieldguide.commands.judging.predicted import Predicted
from fieldguide.commands.judging.prediction_options import demand_different_rows, demand_options, most_megapixels
from fieldguide.commands.terminal.interrupts import ending_at_once
from fieldguide.commands.terminal.screen import Screen
from fieldguide.data.look.files import is_image
from fieldguide.data.look.find import is_archive_file
from fieldguide.deploy.names import PLAIN
from fieldguide.deploy.shards import TRIES, HowRows, Manifest, Piece, ShardWriter, Written
from fieldguide.deploy.stored import Stored, below, url_of
from fieldguide.deploy.unfinished import about_prediction
from fieldguide.errors import UsageError, counted, duration, listing
from fieldguide.recipe.overrides import Overrides
from fieldguide.storage import problem_with_output_folder

PIECE_PHOTOS = 8_192
PIECES_PER_ACTOR = 4  # at least, so that all end at about the same time
SECONDS_BETWEEN_LINES = 30.0
Named = list[tuple[str, Path | Stored]]


@dataclass(frozen=True)
class ShardsAsked:
    """Where a prediction is computed, and what decides its rows."""

    on: str
    share: Share
    top: int
    unsure_below: float | None
    device: str
    engine: str
    flips: str


def predict_elsewhere(
    run: Runs,
    images: Image | Sequence[Image],
    output: Path,
    asked: ShardsAsked,
    screen: Screen,
    *,
    allow_broken_rules: bool = False,
    resume: bool = False,
    overrides: Overrides = (),
) -> Predicted:
    """Writes a folder of Parquet files with a prediction for each photo; see `fieldguide.predict`.

    Raises:
        UsageError: wrong paths or options, no cluster, photos that are no files, two rows with one name.
        MachineError: the storage does not answer; a process ended again and again.
        Interrupted: a signal came; the files that are done stay for `resume`.
    """
    demand_place(asked.on)
    if asked.on == SLURM:
        raise UsageError("--on slurm: predictions run on Ray; give --on ray")
    demand_place_for_pieces(asked.on)
    asked.share.demand("actor")
    demand_options(Path("rows.csv"), asked.top, "csv", asked.unsure_below, False)
    raised = most_megapixels(overrides)
    if not resume and (problem := problem_with_output_folder(output)):
        raise UsageError(f"-o {problem}; choose another folder, or go on with --resume")
    photos = _photos(images, screen)
    demand_different_rows([(name, str(photo)) for name, photo in photos], "csv")
    paths = (run,) if isinstance(run, str | Path) else tuple(run)
    loading = _Loading(tuple(map(str, paths)), asked.device, asked.engine, asked.flips, allow_broken_rules, raised)
    loaded = loading.load()
    for sentence in loaded.sentences():
        screen.warn(sentence)
    if asked.top > len(loaded.predictor.classes):
        raise UsageError(f"--top {asked.top}: the model knows {len(loaded.predictor.classes)} classes")
    options = (asked.top, asked.unsure_below, asked.device, asked.engine, asked.flips, raised)
    named, models = [(name, str(photo)) for name, photo in photos], list(map(identity_of, loaded.paths))
    how = HowRows(asked.top, asked.unsure_below, loaded.predictor.engine_batch_size, len(photos))
    manifest = Manifest(output, about_prediction(named, models, options))
    screen.say(f"predicting {counted(len(photos), 'photo')}")
    with RayPieces(asked.on, asked.share) as cluster:
        if resume:
            manifest.resume()
        else:
            output.mkdir(parents=True, exist_ok=True)
            manifest.begin(_piece_photos(len(photos), how.batch_size, cluster.actors))
        return _computed(photos, manifest, loading, how, cluster, loaded, screen)


def _computed(
    photos: Named,
    manifest: Manifest,
    loading: "_Loading",
    how: HowRows,
    cluster: RayPieces,
    loaded: Loaded,
    screen: Screen,
) -> Predicted:
    folder = manifest.path.parent
    pieces = _pieces(photos, manifest.piece_photos)
    changed = [p for p in pieces if p.number in manifest.done and manifest.done[p.number].photos != p.stamp]
    if changed:
        screen.warn(f"photos of {counted(len(changed), 'file')} have changed since they were predicted; done again")
    for piece in changed:
        del manifest.done[piece.number]
    shutil.rmtree(folder / TRIES, ignore_errors=True)
    todo = [piece for piece in pieces if piece.number not in manifest.done]
    if manifest.done:
        done = sum(written.rows for written in manifest.done.values())
        screen.say(f"{done:,} of {counted(len(photos), 'photo')} are done; going on")
    began, before = time.perf_counter(), sum(written.rows for written in manifest.done.values())

    def what_now() -> str:
        rows = sum(written.rows for written in manifest.done.values())
        kept = f"{rows:,} of {counted(len(photos), 'row')} are kept in {folder}"
        return f"{kept}; go on with: fieldguide predict (the same arguments) --resume"

    with ending_at_once(what_now), _progress(screen, len(photos), before) as show:
        while todo:
            # the first one alone, if an engine may still be chosen or replaced: all others take its engines
            now = todo if manifest.engines or loading.engine == PLAIN else todo[:1]
            for written in cluster.results(_writer, (loading, str(folder), how, manifest.engines), now):
                manifest.add(written)
                show(written)
            todo = [piece for piece in todo if piece.number not in manifest.done]
    shutil.rmtree(folder / TRIES, ignore_errors=True)
    return _told(manifest, len(photos) - before, time.perf_counter() - began, loaded, how, screen)


def _told(manifest: Manifest, new: int, seconds: float, loaded: Loaded, how: HowRows, screen: Screen) -> Predicted:
    """The last lines."""
    done = [manifest.done[number] for number in sorted(manifest.done)]
    for remark in dict.fromkeys(remark for written in done for remark in written.remarks):
        screen.warn(remark)
    failed = tuple((str(name), str(reason)) for written in done for name, reason in written.failed)
    if failed:
        reasons = Counter(reason for _, reason in failed).most_common()
        lines = [f"{count:,}: {reason}" for reason, count in reasons]
        screen.warn(f"{counted(len(failed), 'photo')} could not be read; see the status column:\n{listing(lines)}")
    rows, unsure = sum(written.rows for written in done), sum(written.unsure for written in done)
    speed, by = new / max(seconds, 1e-9), ", ".join(manifest.engines)
    below = "" if how.unsure_below is None else f", {unsure:,} of them unsure (confidence below {how.unsure_below:g})"
    folder = manifest.path.parent
    rate = f"; {speed:,.3g} images/s by {by}" if new else ""
    screen.say(f"{counted(rows, 'row')} in {counted(len(done), 'file')} in {folder}{below}{rate}")
    return Predicted(folder, rows, failed, unsure, by, speed, 0, loaded.broken_rules)


@dataclass(frozen=True)
class _Loading:
    """How each process loads the model."""

    paths: tuple[str, ...]
    device: str
    engine: str
    flips: str
    allow_broken_rules: bool
    max_megapixels: float | None

    def load(self) -> Loaded:
        how = {"draft": True, "allow_broken_rules": self.allow_broken_rules}
        loaded = load_runs(self.paths, self.device, self.engine, flips=self.flips, **how)
        if self.max_megapixels is not None:
            loaded.predictor.raise_bound(self.max_megapixels)
        return loaded


def _writer(loading: _Loading, folder: str, how: HowRows, engines: Sequence[str]) -> ShardWriter:
    return ShardWriter(loading.load().predictor, Path(folder), how, engines)


def _photos(images: Image | Sequence[Image], screen: Screen) -> Named:
    """Names and photos; an archive and what lies in storage are read where they are."""
    given = [images] if isinstance(images, Image) else list(images)
    found, others, local = Named(), 0, list[Image]()
    for one in given:
        if not isinstance(one, str | Path):
            raise UsageError("--on ray: takes paths and addresses; write bytes and open files to files first")
        url = url_of(one)
        if url is None and is_archive_file(Path(one)):
            url = f"file://{Path(one).resolve()}"
        if url is None and Path(one).suffix.lower() in LISTS and (listed := _listed(Path(one))):
            found += listed
        elif url is None:
            local.append(one)
        else:
            new, more = below(url, lambda name: is_image(Path(name)))
            found, others = [*found, *new], others + more
    if local:
        gathered = gather(local, screen.say)
        others += gathered.others
        found += [(name, Path(photo)) for name, photo in gathered.photos if isinstance(photo, str | Path)]
        for remark in gathered.remarks:
            screen.warn(remark)
    if not found:
        raise UsageError(f"no photos in {', '.join(map(str, given))} ({others:,} files without an image ending)")
    return found


def _listed(path: Path) -> Named:
    """The photos of a list of addresses; none if it lists something else."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    except OSError:  # `gather` says so
        return []
    urls = [line for line in dict.fromkeys(lines) if line]
    return [(line, Stored(line)) for line in urls] if urls and all("://" in line for line in urls) else []


def _pieces(photos: Named, size: int) -> list[Piece]:
    begins = range(0, len(photos), size)
    parts = [photos[begin : begin + size] for begin in begins]
    return [Piece(n, tuple(name for name, _ in part), tuple(at for _, at in part)) for n, part in enumerate(parts)]


def _piece_photos(photos: int, batch_size: int, actors: int) -> int:
    """Photos per file: whole batches, so that each photo is computed beside the same ones as on one machine."""
    wanted = min(PIECE_PHOTOS, math.ceil(photos / (actors * PIECES_PER_ACTOR)))
    return batch_size * math.ceil(wanted / batch_size)


@contextmanager
def _progress(screen: Screen, photos: int, before: int) -> Iterator[Callable[[Written], None]]:
    """A bar where lines can be changed, else a line now and then."""
    lines = _Lines(screen, photos, before)
    with screen.counting("predicting", photos) as advance:
        advance(before)

        def tell(written: Written) -> None:
            advance(written.rows)
            lines.tell(written)

        yield tell


class _Lines:
    """How far it is: rate, time left, failed photos."""

    def __init__(self, screen: Screen, photos: int, before: int) -> None:
        self._screen, self._photos, self._before, self._done, self._failed = screen, photos, before, before, 0
        self._began = self._told = time.monotonic()

    def tell(self, written: Written) -> None:
        """More is done."""
        self._done, self._failed = self._done + written.rows, self._failed + len(written.failed)
        now = time.monotonic()
        if self._screen.is_live or now - self._told < SECONDS_BETWEEN_LINES:
            return
        self._told = now
        rate = (self._done - self._before) / max(now - self._began, 1e-9)
        left = duration((self._photos - self._done) / max(rate, 1e-9))
        failed = f", {self._failed:,} failed" if self._failed else ""
        self._screen.say(f"{self._done:,} of {self._photos:,} photos, {rate:,.3g} images/s, {left} left{failed}")
