"""One HTML file with a model, ONNX Runtime Web and the code of `web/`, which works without a network."""

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from fieldguide.errors import UsageError
from fieldguide.storage import cache_folder, write_bytes, write_text

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"  # MIT
ARCHIVE = f"{PACKAGE}-{VERSION}.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
CODE, WASM = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"
PARTS = ("RUNTIME", "WASM", "MODEL")  # of the page
BESIDE = ("runtime.mjs", "runtime.wasm")  # the first two as files, where they are not inside
SECONDS = 300
PACK = f"npm pack {PACKAGE}@{VERSION}"
INSIDE = ("preprocessing", "classes", "max_megapixels", "fieldguide_version", "licence")


def runtime_archive(given: Path | None, tell: Callable[[str], None]) -> bytes:
    """The package of ONNX Runtime Web, checked against its checksum.

    Args:
        given: a file; None: the user's cache, into which npm downloads it once.
        tell: gets a sentence before the download.

    Raises:
        UsageError: it is not there and cannot be downloaded, or is another; the message says what to do.
    """
    place = given or cache_folder("web") / ARCHIVE
    if given is None and not place.is_file():
        tell(f"downloading {PACKAGE} {VERSION} with npm, once")
        write_bytes(place, _checked(_downloaded(place.parent), ARCHIVE))
    try:
        return _checked(place.read_bytes(), str(place))
    except OSError as error:
        raise UsageError(f"--web-runtime {place}: cannot be read ({error.strerror or error})") from None


def _checked(content: bytes, name: str) -> bytes:
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UsageError(f"{name}: is not {ARCHIVE} (its SHA-256 differs); get it again: {PACK}")
    return content


def _downloaded(folder: Path) -> bytes:
    """Has npm fetch the package: its own settings know registry and proxy."""
    by_hand = f"On a machine with a network: {PACK}; then --web-runtime {ARCHIVE}"
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(f"--format web needs {ARCHIVE}, and npm is not installed to get it. {by_hand}")
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / "download"
    made.mkdir(exist_ok=True)
    try:
        subprocess.run(
            [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent"],
            cwd=made, check=True, capture_output=True, timeout=SECONDS, env=os.environ,
        )  # fmt: skip
        return (made / ARCHIVE).read_bytes()
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", b"") or b""
        reason = (said.decode("utf-8", "replace").strip().splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(f"--format web: npm cannot get {ARCHIVE} ({reason}). {by_hand}") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_page(
    page: Path,
    model: Path,
    archive: bytes,
    content: Mapping[str, Any],
    samples: Sequence[Any],
    *,
    is_split: bool = False,
) -> list[Path]:
    """Writes the page: one file with everything inside, or, if `is_split`, one whose parts are files beside it.

    Args:
        page: the file.
        model: an ONNX file that takes resized photos.
        archive: of `runtime_archive`.
        content: what the model's file says of itself.
        samples: (path, probabilities) of photos by which the page checks the browser that it is opened in.

    Returns:
        What was written.
    """
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        code, wasm = (_member(package, name) for name in (CODE, WASM))
    told = {name: content[name] for name in INSIDE} | {"preprocessing": content["preprocessing"][0]}
    checks = [
        {"content": base64.b64encode(path.read_bytes()).decode(), "probabilities": list(row)} for path, row in samples
    ]
    folder = resources.files("fieldguide.deploy.export") / "web"
    text = (folder / "page.html").read_text(encoding="utf-8")
    scripts = "".join((folder / name).read_text(encoding="utf-8") for name in ("answers.js", "resize.js", "page.js"))
    parts = {">DESCRIPTION<": f">{_in_a_script(told)}<", ">SAMPLES<": f">{_in_a_script(checks)}<"}
    beside: dict[Path, bytes] = {}
    if is_split:
        beside = {page.parent / name: each for name, each in zip(BESIDE, (code, wasm), strict=True)}
        names = dict(zip(PARTS, (*BESIDE, model.name), strict=True))
        parts |= {f">{name}<": f' data-file="{file}"><' for name, file in names.items()}
        parts |= {"connect-src 'none'": "connect-src 'self'", " It works without a network.": ""}
    else:
        contents = zip(PARTS, (code, wasm, model.read_bytes()), strict=True)
        parts |= {f">{name}<": f">{_packed(each)}<" for name, each in contents}
    parts["\nCODE\n"] = f"\n{scripts}\n"
    for place, part in parts.items():
        assert place in text, place
        text = text.replace(place, part)
    for path, each in beside.items():
        write_bytes(path, each)
    write_text(page, text)
    return [page, *beside]


def _member(package: tarfile.TarFile, name: str) -> bytes:
    file = package.extractfile(name)
    assert file is not None, name  # the checksum is right
    return file.read()


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode()


def _in_a_script(data: Any) -> str:
    """JSON that ends no script element, whatever a class is called."""
    return json.dumps(data).replace("<", "\\u003c")
