"""A script that trains must not train again in each of its worker processes."""

import multiprocessing
import sys
from pathlib import Path

from fieldguide.errors import UsageError


def demand_guard() -> None:
    """Checks, where worker processes import the script that started them, that it says when not to run.

    Raises:
        UsageError: each worker would begin the same training.
    """
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_context().get_start_method()
    main = sys.modules.get("__main__")
    file, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if method == "fork" or file is None or str(getattr(spec, "name", "")).endswith(".__main__"):
        return  # nothing is imported again, as with `python -m fieldguide`
    try:
        source = Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    if "__main__" not in source:
        raise UsageError(
            f'{file}: put the call into a function that runs only below `if __name__ == "__main__":`, because worker '
            f"processes ({method}) import this script and would begin the same training"
        )
