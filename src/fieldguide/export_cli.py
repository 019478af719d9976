"""`fieldguide export`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fieldguide.options import RUNS, AllowBrokenRules, command, option


@command
def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help=RUNS)],
    output: Annotated[Path, option("FOLDER", "folder for the export; must not exist yet", "-o", "--output")],
    format: Annotated[str, option("FORMAT", "onnx, openvino, torch, or web: a page that works offline")] = "onnx",
    input: Annotated[
        str, option("INPUT", "photo: of any size, the model resizes; resized: for runtimes without the resize")
    ] = "photo",
    int8: Annotated[
        bool, typer.Option("--int8", help="also a file of 8 bits (onnx, openvino); refused if it loses accuracy")
    ] = False,
    proof: Annotated[
        Path | None, option("PHOTOS", "labelled photos to prove it on; default: the run's validation photos")
    ] = None,
    web_runtime: Annotated[
        Path | None, option("FILE", "with --format web: the package of ONNX Runtime Web, for a machine without npm")
    ] = None,
    split: Annotated[
        bool, typer.Option("--split", help="with --format web: model and wasm beside the page, for a web server")
    ] = False,
    allow_broken_rules: AllowBrokenRules = False,
) -> None:
    """Write a model for another runtime, and prove that it answers the same."""
    from fieldguide.commands.export import export as write

    how: Any = {"input": input, "int8": int8, "proof": proof, "web_runtime": web_runtime, "split": split}
    write(runs, output, format=format, allow_broken_rules=allow_broken_rules, **how)
