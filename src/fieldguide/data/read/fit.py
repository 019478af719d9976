"""What becomes of a photo that is not square: kept, padded or squashed."""

from PIL import Image

from fieldguide.data.read.reading import Fit

GRAY = (128, 128, 128)
MOST_SIDE_PX = 4_096  # of a square that is made here; a long sliver would take all memory


def fitted(image: Image.Image, fit: Fit) -> Image.Image:
    """An RGB photo as it is, with gray bars that make it square, or squeezed into a square; no detail is lost."""
    width, height = image.size
    if fit == "crop" or width == height:
        return image
    side = min(max(width, height), MOST_SIDE_PX)
    if fit == "squash":
        made = image.resize((side, side), Image.Resampling.BILINEAR)
    else:
        scale = side / max(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
        made = Image.new("RGB", (side, side), GRAY)
        made.paste(small, ((side - size[0]) // 2, (side - size[1]) // 2))
    made.info = image.info
    return made
