"""How intervals and the paired test behave when photos belong together: simulated bursts of photos.

Usage: python benchmarks/groups.py [--draws 1000]
A burst is right or wrong as a whole, except for a share of its photos. The table shows how many 95 % intervals cover
the truth, and how often the test finds a difference at 5 % between two equally good models: with groups, and with
each photo on its own. The seed is 0, so the figures are the same each time.
"""

import argparse

import numpy as np

from fieldguide.evaluation.clusters import flip_test, share_interval
from fieldguide.evaluation.comparison import mcnemar_exact

KINDS = (
    (30, 10, 0.8, 0.05),
    (30, 10, 0.95, 0.02),
    (8, 20, 0.8, 0.05),
    (200, 2, 0.9, 0.05),
    (300, 1, 0.9, 0.0),
    (6, 5, 0.8, 0.05),  # and as few as a class has
    (10, 4, 0.9, 0.05),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1_000)
    draws, draw = parser.parse_args().draws, np.random.default_rng(0)
    print("| groups | photos of each | right | of these otherwise | covers | as photos | told apart | as photos |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count, size, share, noise in KINDS:
        truth, groups = share * (1 - noise) + (1 - share) * noise, np.repeat(np.arange(count), size)
        found = np.zeros((draws, 4), dtype=bool)
        for number in range(draws):
            a, b = (np.repeat(draw.random(count) < share, size) ^ (draw.random(count * size) < noise) for _ in range(2))
            for place, known in enumerate((groups, None)):
                low, high = share_interval(a, known)
                found[number, place] = low <= truth <= high
            found[number, 2] = flip_test(a.astype(np.int64) - b, groups) < 0.05
            found[number, 3] = mcnemar_exact(int((a & ~b).sum()), int((b & ~a).sum())) < 0.05
        shares = " | ".join(f"{100 * value:.0f} %" for value in found.mean(axis=0))
        print(f"| {count} | {size} | {share} | {noise} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
