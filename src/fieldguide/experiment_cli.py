"""`fieldguide experiment` and `fieldguide search`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fieldguide.options import Columns, Device, Photos, PhotosFolder, Settings, Weights, command, loading, option


@command
def experiment(
    photos: Photos,
    output: Annotated[Path, option("FOLDER", "folder for the runs and the table", "-o", "--output")],
    recipe: Annotated[list[str], option("NAME|FILE", "recipe to train; repeatable")],
    seeds: Annotated[int, option("N", "runs per recipe, one seed each; adds mean and standard deviation")] = 1,
    settings: Settings = None,
    weights: Weights = None,
    device: Device = "auto",
    photos_folder: PhotosFolder = None,
    columns: Columns = None,
    test_scores: Annotated[Path | None, option("FILE", "CSV method,score: what a leaderboard said")] = None,
    on: Annotated[str | None, option("WHERE", "train several at once: ray, ray://HOST:10001 or slurm")] = None,
    cpus_per_trial: Annotated[float, option("N", "with --on: CPUs that each training takes")] = 1,
    gpus_per_trial: Annotated[
        float | None, option("N", "with --on: GPUs that each training takes, such as 0.5; default: 1 if there are any")
    ] = None,
) -> int:
    """Train several recipes on the same split and compare them."""
    with loading():
        from fieldguide.commands.experiment import experiment as run

    how: Any = {"overrides": settings or (), "weights": weights, "device": device, "test_scores": test_scores}
    how |= {"on": on, "cpus_per_trial": cpus_per_trial, "gpus_per_trial": gpus_per_trial}
    return run(photos, recipe, output, seeds=seeds, photos_folder=photos_folder, columns=columns, **how).exit_code


@command
def search(
    photos: Photos,
    output: Annotated[Path, option("FOLDER", "folder for the trials and the winner", "-o", "--output")],
    space: Annotated[str, option("FILE", "YAML of recipe fields with values or ranges, or default")] = "default",
    minutes: Annotated[float, option("N", "half for the search, half for the winner's trainings")] = 120,
    trials: Annotated[int | None, option("N", "at most so many; default: as many as the time allows")] = None,
    recipe: Annotated[str, option("NAME|FILE", "what the space does not say")] = "auto",
    seeds: Annotated[int, option("N", "trainings of the winner, with fresh seeds")] = 3,
    settings: Settings = None,
    weights: Weights = None,
    device: Device = "auto",
    on: Annotated[str | None, option("WHERE", "several trials at once: ray or ray://HOST:10001")] = None,
    cpus_per_trial: Annotated[float, option("N", "with --on: CPUs that each trial takes")] = 1,
    gpus_per_trial: Annotated[
        float | None, option("N", "with --on: GPUs that each trial takes, such as 0.5; default: 1 if there are any")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with this command after it was interrupted")] = False,
    photos_folder: PhotosFolder = None,
    columns: Columns = None,
) -> int:
    """Search recipe fields, and see whether the best ones beat the default recipe."""
    with loading():
        from fieldguide.commands.search import search as run

    how: Any = {"space": space, "minutes": minutes, "trials": trials, "recipe": recipe, "seeds": seeds}
    how |= {"overrides": settings or (), "weights": weights, "device": device, "resume": resume}
    how |= {"on": on, "cpus_per_trial": cpus_per_trial, "gpus_per_trial": gpus_per_trial}
    return run(photos, output, photos_folder=photos_folder, columns=columns, **how).exit_code
