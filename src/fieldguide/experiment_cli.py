"""`fieldguide experiment`."""

from pathlib import Path
from typing import Annotated, Any

from fieldguide.options import Columns, Device, Photos, PhotosFolder, Settings, Weights, command, option


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
    from fieldguide.commands.experiment import experiment as run

    how: Any = {"overrides": settings or (), "weights": weights, "device": device, "test_scores": test_scores}
    how |= {"on": on, "cpus_per_trial": cpus_per_trial, "gpus_per_trial": gpus_per_trial}
    return run(photos, recipe, output, seeds=seeds, photos_folder=photos_folder, columns=columns, **how).exit_code
