"""`fieldguide predict RUN PHOTOS -o CSV` as it is typed, with --whole; this script adds a tenth of a second to it."""

import os
import subprocess
import sys
from pathlib import Path

import contract


def main() -> None:
    parser = contract.arguments(__doc__)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    environment = os.environ | {"FIELDGUIDE_CACHE": str(Path(options.kept) / "cache")}

    def predict(photos: str, output: str) -> int:
        command = [sys.executable, "-m", "fieldguide", "predict", options.run, photos, "-o", output]
        subprocess.run([*command, "--engine", options.engine], check=True, env=environment, stdout=sys.stderr)
        return len(list(Path(photos).iterdir()))

    contract.time_prediction(predict, options, ("fieldguide", "openvino"))


if __name__ == "__main__":
    main()
