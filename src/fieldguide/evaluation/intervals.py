"""How sure a share is."""

from scipy.stats import binomtest


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a binomial proportion (Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1).

    Args:
        successes: count, at most `trials`.
        trials: count, at least 1.
        confidence: in (0, 1).

    Returns:
        Lower and upper bound, in [0, 1].

    Raises:
        ValueError: no trials, or more successes than trials.
    """
    interval = binomtest(successes, trials).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)
