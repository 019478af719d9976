"""`fieldguide export`: a model for another runtime, with the proof that it answers as the trained one."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldguide.commands.exporting.int8 import calibration_of, demand_enough, int8_variant
from fieldguide.commands.exporting.page import page_of
from fieldguide.commands.exporting.photos import ProofPhotos, proof_photos, training_photos
from fieldguide.commands.exporting.proof import Answers, Proof, answers_of, prove, refusal, sentence, tolerance
from fieldguide.commands.exporting.samples import write_samples
from fieldguide.commands.exporting.speed import speed_of
from fieldguide.commands.judging.models import Runs, is_export, load_runs
from fieldguide.commands.terminal.interrupts import ending_at_once
from fieldguide.commands.terminal.outputs import demand_free_outputs
from fieldguide.commands.terminal.screen import Screen
from fieldguide.deploy.answers import Answering
from fieldguide.deploy.export.exported import Exported, open_variant
from fieldguide.deploy.export.formats import Format, Variant, demand_format
from fieldguide.deploy.export.graph import INPUTS, Graph, Input
from fieldguide.deploy.export.int8 import problem_with_int8
from fieldguide.deploy.export.members import load_members
from fieldguide.deploy.export.program import traced
from fieldguide.deploy.export.web_page import runtime_archive, write_page
from fieldguide.deploy.names import PLAIN
from fieldguide.errors import ProofError, UsageError, counted, listing
from fieldguide.export_folder import ExportFolder
from fieldguide.model.description import WEIGHTS_FILE, find_bundle
from fieldguide.storage import WRITING, file_digest, problem_with_output_folder, write_text

WEB = "web"
CHECKED_BY_A_PAGE = 1  # sample, before it answers


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: the folder.
        content: plain data, as in its `export.json`.
    """

    path: Path
    content: dict[str, Any]

    def __repr__(self) -> str:
        return f"Export({self.path}, {self.content['runtime']}, {', '.join(self.names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Of its variants, such as `fp32`."""
        return tuple(variant["name"] for variant in self.content["variants"])


def export(
    run: Runs,
    output: str | Path,
    *,
    format: str = "onnx",
    input: str = "photo",
    int8: bool = False,
    proof: str | Path | None = None,
    web_runtime: str | Path | None = None,
    split: bool = False,
    allow_broken_rules: bool = False,
    quiet: bool = False,
) -> Export:
    """Writes a model for another runtime, and holds it against the trained model on labelled photos.

    Args:
        run: a run or a bundle; or several with the same classes, exported as one model: the mean of their calibrated
            probabilities.
        output: folder to make.
        format: `onnx`, `openvino`, `torch`, or `web`: an ONNX file, and a page that holds it and works offline.
        input: `photo`: the model takes photos of any size, and resizes; `resized`: it takes photos that were resized
            and cut out as the bundle says, for runtimes without the resize.
        int8: for `onnx` and `openvino`, also a file whose network is quantised to 8 bits, with ranges from 300 training
            photos. It is accepted only if the proof shows that it loses less than a point of accuracy.
        proof: labelled photos; None: the run's validation photos.
        web_runtime: for `web`, the package of ONNX Runtime Web (a .tgz); None: from the cache, or by npm.
        split: for `web`, leave model and wasm as files beside the page, for a web server.
        allow_broken_rules: continue if the ensemble breaks a run's rule.
        quiet: show nothing.

    Raises:
        UsageError: wrong paths or options, or a missing package.
        PhotosError: the photos of the proof cannot be used.
        ProofError: the export answers differently; nothing is left of it.
        Interrupted: a signal came; nothing is left of it.
    """
    screen, target = Screen(quiet=quiet), Path(output)
    paths = [Path(run)] if isinstance(run, str | Path) else [Path(each) for each in run]
    is_web = format == WEB
    takes = _demand_options(paths, target, "resized" if is_web else input)
    for option in [f"--web-runtime {web_runtime}"] * (web_runtime is not None) + ["--split"] * split:
        if not is_web:
            raise UsageError(f"{option}: is for --format {WEB}; leave it out")
    format = "onnx" if is_web else format  # the page holds an ONNX file, and resizes by its own code
    wanted = demand_format(format)
    if int8 and (problem := _problem_with_int8(wanted, format, is_web=is_web)):
        raise UsageError(problem)
    given = None if web_runtime is None else Path(web_runtime)
    archive = runtime_archive(given, screen.say) if is_web else b""
    loaded = load_runs(paths, "cpu", PLAIN, allow_broken_rules=allow_broken_rules)
    for remark in loaded.sentences():
        screen.warn(remark)
    photos = proof_photos(paths, loaded.predictor.classes, None if proof is None else Path(proof), screen.say)
    with ending_at_once(lambda: "no export is left"), _folder_in_the_making(target) as folder:
        original = _original(loaded.predictor, photos, screen)
        if int8:
            demand_enough(original)
        content = _write(paths, folder, format, wanted, takes, screen)
        made = _Made(folder, format, content, original, photos, loaded.predictor)
        content["variants"] = [made.proven(variant, screen) for variant in content["variants"]]
        content["proof"] = _about_proof(original, photos)
        content["tolerance"] = tolerance([variant["proof"] for variant in content["variants"]])
        if int8:
            content["variants"].append(_quantised(made, wanted, training_photos(paths), screen))
        samples = write_samples(folder, original, photos, content["tolerance"])
        if is_web:
            checks = [(each.path, each.probabilities) for each in samples[:CHECKED_BY_A_PAGE]]
            model = folder.path / content["variants"][0]["file"]
            made_of = write_page(folder.web_page, model, archive, content, checks, is_split=split)
            content["page"] = {"file": folder.web_page.name, "bytes": folder.web_page.stat().st_size}
            content["page"] |= {"files": [path.name for path in made_of], "is_split": split}
        for variant in content["variants"]:
            variant["speed"] = speed_of(loaded.predictor, made.opened(variant["file"]), [each.path for each in samples])
        if int8:
            exact, own = (made.opened(content["variants"][place]["file"]) for place in (0, -1))
            content["variants"][-1]["beside_fp32"] = speed_of(exact, own, [each.path for each in samples])
        write_text(folder.page, page_of(content))
        folder.write(content)
    screen.say(
        f"{target}: proven on {counted(len(original.predictions.files), 'photo')}; see {target / folder.page.name}"
    )
    return Export(target, content)


def _demand_options(paths: Sequence[Path], target: Path, takes: str) -> Input:
    problems = [f"{path}: is an export already; give the run it came from" for path in paths if is_export(path)]
    if takes not in INPUTS:
        problems.append(f"--input {takes}: must be {' or '.join(INPUTS)}")
    if problem := problem_with_output_folder(target):
        problems.append(f"-o {problem}; choose another folder")
    if problems:
        raise UsageError(*problems)
    demand_free_outputs({"-o": target})
    return "photo" if takes == "photo" else "resized"


@contextlib.contextmanager
def _folder_in_the_making(target: Path) -> Iterator[ExportFolder]:
    """A folder that takes its name only after everything was proven; nothing stays after an error."""
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=target.absolute().parent, prefix=WRITING))
    except OSError as error:
        raise UsageError(f"-o {target}: cannot be written ({error.strerror or error})") from None
    try:
        yield ExportFolder(place)
        place.chmod(0o755)  # mkdtemp makes it private; a result is not
        if target.is_dir():
            target.rmdir()  # empty, as was checked
        place.replace(target)
    except OSError as error:
        raise UsageError(f"-o {target}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _original(predictor: Answering, photos: ProofPhotos, screen: Screen) -> Answers:
    with screen.counting("trained model", len(photos.rows)) as advance:
        found = answers_of(predictor, photos, advance)
    if found.failed:
        lines = [f"{entry['file']} {entry['reason']}" for entry in found.failed]
        screen.warn(f"{counted(len(lines), 'photo')} unreadable; not in the proof:\n{listing(lines)}")
    return found


def _write(
    paths: Sequence[Path], folder: ExportFolder, format: str, wanted: Format, takes: Input, screen: Screen
) -> dict[str, Any]:
    """Writes the model's files; what they say of themselves, with the variants."""
    members, about = load_members(paths, takes)
    screen.say(f"writing {format} ({counted(len(members), 'model')})")
    program = traced(Graph(members, takes), members[0].preprocessing.image_size_px)
    variants = wanted.write(program, folder.path, about)
    return {
        **about,
        "runtime": format,
        "serves": variants[0].name,
        "original_bytes": sum((find_bundle(path) / WEIGHTS_FILE).stat().st_size for path in paths),
        "variants": [_described(folder, variant) for variant in variants],
    }


def _described(folder: ExportFolder, variant: Variant) -> dict[str, Any]:
    files = [folder.path / name for name in variant.files]
    return {
        "name": variant.name,
        "file": variant.files[0],
        "sha256": {file.name: file_digest(file) for file in files},
        "bytes": sum(file.stat().st_size for file in files),
    }


@dataclass(frozen=True)
class _Made:
    """A written export, and what it is held against."""

    folder: ExportFolder
    format: str
    content: dict[str, Any]
    original: Answers
    photos: ProofPhotos
    predictor: Answering

    def opened(self, file: str) -> Exported:
        """A variant in its own runtime."""
        return open_variant(self.folder.path, self.format, file)

    def judged(self, variant: dict[str, Any], screen: Screen) -> Proof:
        """The variant's proof."""
        name = variant["name"]
        with screen.counting(f"export in {name}", len(self.photos.rows)) as advance:
            return prove(self.original, self.opened(variant["file"]), self.photos, name, advance)

    def proven(self, variant: dict[str, Any], screen: Screen) -> dict[str, Any]:
        """The variant with the figures of its proof; raises ProofError if it is refused."""
        name, proof = variant["name"], self.judged(variant, screen)
        if proof.problems:
            raise ProofError(refusal(f"the export in {name}", proof))
        screen.say(sentence(name, proof.figures))
        return {**variant, "proof": proof.figures, "worst": list(proof.worst)}


def _quantised(made: _Made, format: Format, train: Sequence[tuple[Path, str]], screen: Screen) -> dict[str, Any]:
    """The variant in int8, with the figures of its proof; raises ProofError if it is refused."""
    exact = made.opened(made.content["variants"][0]["file"])

    def proven(variant: Variant) -> tuple[dict[str, Any], Proof]:
        described = _described(made.folder, variant)
        proof = made.judged(described, screen)
        size = sum((made.folder.path / name).stat().st_size for name in variant.files) / 1e6
        screen.say(f"{sentence('int8', proof.figures)}; {size:.1f} MB")  # also of one that is refused
        return {**described, "proof": proof.figures, "worst": list(proof.worst)}, proof

    return int8_variant(format, made.folder.path, exact.about, calibration_of(train, exact), proven, screen.say)


def _problem_with_int8(format: Format, name: str, *, is_web: bool) -> str | None:
    if format.quantize is None or is_web:
        return f"--int8: is for --format onnx or openvino, not {WEB if is_web else name}; leave it out"
    return problem_with_int8()


def _about_proof(original: Answers, photos: ProofPhotos) -> dict[str, Any]:
    versions = {name: _version(name) for name in ("torch", "numpy", "pillow", "onnxruntime", "openvino")}
    return {"part": photos.part, "images": len(original.predictions.files), "versions": versions}


def _version(name: str) -> str | None:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
