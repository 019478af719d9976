"""How many copies of real photos the near-duplicate search finds: cropped by up to 3 % a side, scaled, re-encoded.

Usage: python benchmarks/near.py FOLDER --copies 2000
FOLDER has photos in any layout that fieldguide reads. Each copy is compared with all originals, as if it were in
another part of the same folder. It counts as found if it is paired with its own original.
"""

import argparse
import io
import random
import tempfile
from pathlib import Path

from PIL import Image

from fieldguide.data.look.looked_at import look_at
from fieldguide.data.look.near import near_pairs
from fieldguide.data.look.scan import Photo, scan
from fieldguide.data.read.decode import read_photo


def copy_of(path: Path, draw: random.Random) -> bytes:
    """A JPEG of the photo, each side cut by 0 to 3 %, scaled by 0.35 to 1.5, at quality 30 to 95."""
    image = read_photo(path)
    width, height = image.size
    left, top, right, bottom = (draw.uniform(0, 0.03) for _ in range(4))
    image = image.crop(
        (int(left * width), int(top * height), width - int(right * width), height - int(bottom * height))
    )
    scale = draw.uniform(0.35, 1.5)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BICUBIC
    )
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=draw.randint(30, 95))
    return buffer.getvalue()


def main() -> None:
    """Prints how many copies were found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    originals = list(scan(arguments.folder).photos)
    with tempfile.TemporaryDirectory() as folder:
        copies, source = [], {}
        for number, original in enumerate(draw.sample(originals, min(arguments.copies, len(originals)))):
            path = Path(folder) / f"{number:05d}.jpg"
            path.write_bytes(copy_of(original.path, draw))
            copies.append(Photo(path, path.name, "val", original.class_name))
            source[path.name] = original.file
        facts = [entry for entry in look_at([*originals, *copies], 200, lambda _: None) if entry.print is not None]
    pairs = near_pairs([entry.print for entry in facts], [entry.width / entry.height for entry in facts])
    named = {frozenset((facts[pair.first].photo.file, facts[pair.second].photo.file)) for pair in pairs}
    found = sum(frozenset(pair) in named for pair in source.items())
    print(f"{found:,} of {len(source):,} copies found beside {len(originals):,} photos (seed {arguments.seed})")


if __name__ == "__main__":
    main()
