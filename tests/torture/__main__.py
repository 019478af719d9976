"""`python -m tests.torture 200 [seed]`: so many trainings killed at random moments; prints the counts."""

import sys
import tempfile

from tests.torture.runner import main

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        trials, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
        sys.exit(1 if main(trials, scratch, seed) else 0)
