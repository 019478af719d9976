"""The image size and crop at test time: from the recipe, or chosen on validation after the training.

Objects look larger under RandomResizedCrop than in a centre crop, so a network is often more accurate on test images
larger than those of training (Touvron et al. 2019, arXiv 1906.06423, sections 3 and 4; the last layers are not trained
again).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from PIL.Image import Image

from fieldguide import assemble
from fieldguide.commands.terminal.screen import Screen
from fieldguide.commands.trial.size_trials import Choice, Setting, Tries, choose, with_setting
from fieldguide.data.read.content import read_bytes
from fieldguide.data.read.decode import UnreadableError, opened
from fieldguide.data.read.preprocess import resized_side
from fieldguide.data.split.partition import Row
from fieldguide.deploy.predictor import load_predictor
from fieldguide.errors import UsageError
from fieldguide.model.bundle import write_preprocessing
from fieldguide.model.classifier import demand_image_size, make_on_meta
from fieldguide.model.description import read_description
from fieldguide.recipe.contradictions import MOST_RESIZED_PX
from fieldguide.recipe.lives import PlannedRecipe, SizedRecipe
from fieldguide.run_folder import RunFolder
from fieldguide.training.budget import TEST_CROP_SHARES, TEST_SIZE_FACTORS

AUTO = "auto"
MULTIPLE_PX = 16
MOST_ENLARGED = 2  # times the median shorter side of the photos
MOST_LOOKED_AT = 200  # photos whose size is read for this


def settle_size(
    run: RunFolder,
    recipe: PlannedRecipe,
    rows: Sequence[Row],
    photos: Mapping[str, Path | Image],
    device: str,
    screen: Screen,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Chooses size and crop if the recipe says `auto`, writes them into the run's bundle, and says so.

    Ignores what the bundle said before, so a resumed run chooses the same; the temperature must be fitted afterwards.
    `rows` are the validation photos, `seconds` is the time limit. Returns `test_time` of `result.json`; raises as
    `judge_photos`, for the setting of the training.
    """
    start = start_of(recipe)
    served = assemble.served_preprocessing_of(recipe)
    choice = Choice(start, {}, False, 0, "")
    if AUTO in (recipe.data.test_size_px, recipe.data.test_crop_share):
        predictor = load_predictor(run.path, device).with_preprocessing(served)
        sizes, remark = sizes_to_try(recipe, start[0], shorter_side_px(rows, photos, recipe), len(predictor.classes))
        shares = TEST_CROP_SHARES if recipe.data.test_crop_share == AUTO else ()
        most = len(rows) * (1 + len(sizes) + len(shares))
        with screen.counting("choosing the test size", most) as advance:
            choice = choose(Tries(predictor, rows, photos, seconds, advance), start, sizes, shares)
        choice = replace(choice, sentence=choice.sentence + remark)
        served = with_setting(served, choice.setting)
        screen.say(choice.sentence)
    if dict(read_description(run.bundle).preprocessing) != served.to_dict():
        write_preprocessing(run.bundle, served.to_dict())
    return choice.to_dict() | {"flips": served.flips}


def start_of(recipe: SizedRecipe) -> Setting:
    """The setting to keep unless another is better: the recipe's for test time, else that of the training."""
    data = recipe.data
    size = data.test_size_px if isinstance(data.test_size_px, int) else data.image_size_px
    share = data.test_crop_share if isinstance(data.test_crop_share, float) else data.crop_share
    return size, share


def sizes_to_try(recipe: SizedRecipe, size: int, shorter_side: float, num_classes: int) -> tuple[list[int], str]:
    """Larger sizes than that of the training (`size`), if network and photos allow them.

    Takes the photos' median shorter side; returns sizes in px, smallest first, and the end of a sentence if none is
    left.
    """
    if recipe.data.test_size_px != AUTO:
        return [], ""
    share, sizes = start_of(recipe)[1], {MULTIPLE_PX * round(size * by / MULTIPLE_PX) for by in TEST_SIZE_FACTORS}
    wanted = [px for px in sorted(sizes) if size < px <= MOST_ENLARGED * shorter_side]
    wanted = [px for px in wanted if resized_side(px, share) <= MOST_RESIZED_PX]
    if not wanted:
        return [], f"; the photos are too small for a larger size (median shorter side {shorter_side:g} px)"
    network = make_on_meta(assemble.architecture(recipe, num_classes))
    fitting = [px for px in wanted if _takes(network, px, recipe.model.backbone)]
    return fitting, "" if fitting else f"; {recipe.model.backbone} only takes {size} px"


def _takes(network: Any, size: int, backbone: str) -> bool:
    try:
        demand_image_size(network, size, backbone)
    except UsageError:
        return False
    return True


def shorter_side_px(rows: Sequence[Row], photos: Mapping[str, Path | Image], recipe: SizedRecipe) -> float:
    """The median over at most `MOST_LOOKED_AT` evenly picked photos, from their headers."""
    step = max(1, len(rows) // MOST_LOOKED_AT)
    found = []
    for photo in (photos[row.file] for row in rows[::step]):
        try:
            if not isinstance(photo, Path):
                found.append(min(photo.size))
                continue
            with opened(read_bytes(photo), assemble.reading_of(recipe.data)) as image:
                found.append(min(image.size))
        except UnreadableError:
            continue  # judging reports it
    return median(found) if found else 0
