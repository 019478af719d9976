"""What a prediction wrote."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Predicted:
    """What was written.

    Attributes:
        output: the file, or the folder of a prediction on a cluster.
        images: rows in it.
        failed: names and reasons of the photos that could not be read.
        unsure: rows with less confidence than `unsure_below`.
        engine: which engine computed them, such as `openvino in bf16`.
        images_per_second: from opening the first file to writing the last row, without loading the model.
        decoded_smaller: how many large JPEGs were decoded at reduced size.
        broken_rules: the rules that the ensemble breaks, as sentences; only with `allow_broken_rules`.
    """

    output: Path
    images: int
    failed: tuple[tuple[str, str], ...]
    unsure: int = 0
    engine: str = ""
    images_per_second: float = 0.0
    decoded_smaller: int = 0
    broken_rules: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or 3 where photos could not be read."""
        return 3 if self.failed else 0
