"""Intervals for a share, for a difference of two shares on the same photos, and for a mean over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a binomial proportion (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1).

    Returns both bounds, in [0, 1]; raises ValueError without trials, or with more successes than trials.
    """
    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)


def wilson_each(
    successes: npt.NDArray[Any], trials: npt.NDArray[Any], confidence: float = 0.95
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Wilson's interval of many proportions at once, for a thousand classes; the same figures as `wilson`.

    Args:
        successes: (shares,) counts, at most `trials`; fractional if trials count for less than one each.
        trials: (shares,) counts; for 0 the bounds are 0 and 1.

    Returns:
        Lower and upper bounds, each (shares,), in [0, 1].
    """
    z_squared = float(norm.ppf((1 + confidence) / 2)) ** 2
    failures = trials - successes
    middle = (successes + z_squared / 2) / (trials + z_squared)
    some = np.where(trials > 0, trials, 1)  # avoids 0 / 0; the product is 0 anyway
    half = np.sqrt(z_squared * (successes * failures / some + z_squared / 4)) / (trials + z_squared)
    # at the ends the bound is exactly 0 or 1, whatever rounding says
    low = np.where(successes == 0, 0.0, np.maximum(middle - half, 0.0))
    return low, np.where(failures == 0, 1.0, np.minimum(middle + half, 1.0))


def paired_difference(only_a: float, only_b: float, pairs: float, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's score interval of the difference between two shares of the same photos.

    Tango 1998, Statistics in Medicine 17:891-908, recommended by Fagerland, Lydersen and Laake 2014, Statistics in
    Medicine 33:2850-2875. The bounds are the differences d at which the score test stands on its limit,
    (b - c - n d) / sqrt(n (2 q + d (1 - d))) = +-z, with q the likeliest share of pairs that only the second has right,
    given d: the positive root of 2 n q^2 + (-b - c + (2 n - b + c) d) q - c d (1 - d) = 0. At d = 0 this is McNemar's
    asymptotic test; no other common interval agrees with that. Unlike Wald's, it has a width even if all pairs agree.

    Args:
        only_a: pairs in which only the first is right; fractional if pairs count for less than one each.
        only_b: pairs in which only the second is right.
        pairs: all pairs, above 0.
        confidence: in (0, 1).

    Returns:
        Lower and upper bound of (share of the first) - (share of the second), in [-1, 1].

    Raises:
        ValueError: no pairs, or counts that are no part of them.
    """
    if pairs <= 0 or min(only_a, only_b) < 0 or only_a + only_b > pairs:
        raise ValueError(f"{only_a} and {only_b} of {pairs} pairs")
    z = float(norm.ppf((1 + confidence) / 2))
    return _tango_lower(only_a, only_b, pairs, z), -_tango_lower(only_b, only_a, pairs, z)


def _tango_lower(only_a: float, only_b: float, pairs: float, z: float) -> float:
    def excess(difference: float) -> float:
        """How much further the estimate is from `difference` than z standard errors, times `pairs`."""
        linear = -only_a - only_b + (2 * pairs - only_a + only_b) * difference
        constant = -only_b * difference * (1 - difference)
        root = math.sqrt(max(linear**2 - 8 * pairs * constant, 0.0))
        share_b = (root - linear) / (4 * pairs)  # the likeliest share of `only_b`, given the difference
        variance = pairs * (2 * share_b + difference * (1 - difference))
        return only_a - only_b - pairs * difference - z * math.sqrt(max(variance, 0.0))

    estimate = (only_a - only_b) / pairs
    if excess(-1.0) <= 0:
        return -1.0
    # Just below the estimate: if all pairs agree, the estimate itself is a second root, and the wrong one.
    return float(brentq(excess, -1.0, estimate - 1e-6 / pairs, xtol=1e-14))


@dataclass(frozen=True)
class Spread:
    """Figures over several seeds of one recipe.

    `deviation` is the standard deviation, divided by n - 1; `low` and `high` are the mean's 95 % t-interval. All three
    are None for one seed.
    """

    n: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


def spread(values: Sequence[float], confidence: float = 0.95) -> Spread:
    """Mean, standard deviation and Student's t-interval of the mean.

    The interval is for other seeds on the same photos. It does not cover other photos. Raises ValueError without
    values, or if one is not finite.
    """
    if len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"no spread of {list(values)}")
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Spread(n, mean, None, None, None)
    deviation = float(np.std(values, ddof=1))
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return Spread(n, mean, deviation, mean - half, mean + half)
