"""`fieldguide serve`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fieldguide.options import RUNS, AllowBrokenRules, Device, Engine, command, loading, option


@command
def serve(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help=f"{RUNS}; or an export")],
    host: Annotated[str, option("ADDRESS", "where to listen; another than this machine needs a token")] = "127.0.0.1",
    port: Annotated[int, option("PORT", "0: one that is free")] = 8000,
    token_file: Annotated[
        Path | None, option("FILE", "requests need the token in this file; or set FIELDGUIDE_TOKEN")
    ] = None,
    allow_host: Annotated[
        list[str] | None, option("NAME", "a name by which clients reach the server; repeatable", "--allow-host")
    ] = None,
    unsure_below: Annotated[
        float | None, option("CONFIDENCE", "mark less confident predictions as unsure, such as 0.8")
    ] = None,
    max_upload_mb: Annotated[float, option("MB", "largest request")] = 64,
    max_queue: Annotated[int, option("PHOTOS", "photos that may wait; more get 503")] = 256,
    device: Device = "auto",
    engine: Engine = "auto",
    flips: Annotated[str, option("FLIPS", "none: leave out the mirror images that a run asks for")] = "as-trained",
    allow_broken_rules: AllowBrokenRules = False,
) -> None:
    """Answer photos over HTTP: a page, /predict and KServe V2."""
    with loading():
        from fieldguide.commands.serve import serve as run

    where: Any = {"host": host, "port": port, "token_file": token_file, "allow_hosts": allow_host or ()}
    how: Any = {"device": device, "engine": engine, "flips": flips, "allow_broken_rules": allow_broken_rules}
    run(runs, unsure_below=unsure_below, max_upload_mb=max_upload_mb, max_queue=max_queue, **where, **how)
