"""Intervals against SciPy, statsmodels, and the definition that they invert."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from fieldguide.evaluation.intervals import paired_difference, spread, wilson, wilson_each

Z = stats.norm.ppf(0.975)


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 1), (1, 1), (0, 30), (30, 30), (17, 30), (751, 780), (1, 50_000)]
)
def test_wilson_agrees_with_statsmodels(successes, trials):
    assert wilson(successes, trials) == pytest.approx(
        proportion_confint(successes, trials, method="wilson"), rel=0, abs=1e-9
    )


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_many_wilson_intervals_at_once_are_those_of_scipy_one_by_one(confidence):
    counts = [(k, n) for n in (1, 2, 7, 40, 3000) for k in sorted({0, 1, n // 3, n - 1, n})]
    low, high = wilson_each(*np.array(counts).T, confidence)
    singly = np.array([wilson(k, n, confidence) for k, n in counts])
    np.testing.assert_allclose(np.column_stack([low, high]), singly, rtol=0, atol=1e-12)


def test_a_share_of_nothing_is_unknown_and_a_bound_at_the_end_is_exact():
    low, high = wilson_each(np.array([0, 0, 9]), np.array([0, 9, 9]))
    assert (low[0], high[0]) == (0, 1)
    assert low[1] == 0
    assert high[2] == 1


@pytest.mark.parametrize("trials", [0.05, 0.4, 0.97, 1.0, 2.5])
def test_at_wilsons_bounds_the_score_test_stands_on_its_limit_for_parts_of_a_trial_too(trials):
    for share in (0.2, 0.5, 0.9):
        bounds = np.concatenate(wilson_each(np.array([share * trials]), np.array([trials])))
        assert (share - bounds) / np.sqrt(bounds * (1 - bounds) / trials) == pytest.approx([Z, -Z], abs=1e-9)


def score(only_a, only_b, pairs, difference):
    """Tango's statistic, with the constrained estimate found by a search instead of a formula."""
    both = pairs - only_a - only_b

    def negative_log_likelihood(share_b):
        shares = share_b + difference, share_b, 1 - 2 * share_b - difference
        return -sum(
            count * math.log(max(share, 1e-300)) for count, share in zip((only_a, only_b, both), shares, strict=True)
        )

    lowest, highest = max(0.0, -difference), (1 - difference) / 2
    share_b = minimize_scalar(negative_log_likelihood, bounds=(lowest, highest), options={"xatol": 1e-12}).x
    variance = pairs * (2 * share_b + difference - difference**2)
    return (only_a - only_b - pairs * difference) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("only_a", "only_b", "pairs"), [(7, 1, 21), (40, 20, 160), (12, 12, 780), (30, 14, 780), (2, 1, 9)]
)
def test_at_tangos_bounds_the_score_test_stands_on_its_limit(only_a, only_b, pairs):
    low, high = paired_difference(only_a, only_b, pairs)
    assert score(only_a, only_b, pairs, low) == pytest.approx(Z, abs=1e-5)
    assert score(only_a, only_b, pairs, high) == pytest.approx(-Z, abs=1e-5)


def quartic_bounds(b, c, n):
    """Tango's bounds without iteration, from the squared equation (after Yang, Sun and Hardin 2013): its outer roots.

    The constrained estimate q solves 2nq^2 + (2nd - (b + c) - (b - c)d)q - cd(1 - d) = 0, and the bound solves
    (b - c - nd)^2 = z^2 n (2q + d - d^2); with q from the second put into the first, a quartic in d remains.
    """
    d, square = np.polynomial.Polynomial([0, 1]), Z**2
    q = ((b - c - n * d) ** 2 / (square * n) - d + d**2) / 2
    quartic = 2 * n * q**2 + (2 * n * d - (b + c) - (b - c) * d) * q - c * d * (1 - d)
    roots = quartic.roots()
    real = roots[np.abs(roots.imag) < 1e-6].real
    return real.min(), real.max()


def test_tangos_bounds_are_the_outer_roots_of_the_quartic():
    random = np.random.default_rng(0)
    for _ in range(200):
        n = int(random.integers(5, 3000))
        b, c, _ = (int(count) for count in random.multinomial(n, random.dirichlet([1, 1, 4])))
        if 0 < b + c < n:
            assert paired_difference(b, c, n) == pytest.approx(quartic_bounds(b, c, n), rel=0, abs=1e-9)


def test_tangos_interval_of_a_published_table_is_the_published_one():
    # 1, 1, 7, 12 (airway reactivity of 21 children): Fagerland, Lydersen and Laake 2014
    assert paired_difference(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("pairs", [1, 10, 780])
def test_where_all_pairs_agree_or_all_differ_the_interval_has_its_closed_form(pairs):
    width = Z**2 / (pairs + Z**2)
    assert paired_difference(0, 0, pairs) == pytest.approx((-width, width), abs=1e-9)
    assert paired_difference(pairs, 0, pairs) == pytest.approx(((pairs - Z**2) / (pairs + Z**2), 1), abs=1e-9)
    assert paired_difference(0, pairs, pairs) == pytest.approx((-1, -(pairs - Z**2) / (pairs + Z**2)), abs=1e-9)


def test_swapping_the_models_turns_the_interval_over():
    low, high = paired_difference(9, 4, 100)
    assert paired_difference(4, 9, 100) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize(("share_a", "share_b"), [(0.1, 0.1), (0.2, 0.05), (0.03, 0.01), (0.4, 0.3)])
def test_tangos_interval_covers_about_95_percent_by_exact_enumeration(share_a, share_b):
    n, covered = 40, 0.0
    for only_a in range(n + 1):
        for only_b in range(n + 1 - only_a):
            weight = stats.multinomial.pmf(
                [only_a, only_b, n - only_a - only_b], n, [share_a, share_b, 1 - share_a - share_b]
            )
            if weight > 1e-6:
                low, high = paired_difference(only_a, only_b, n)
                covered += weight * (low <= share_a - share_b <= high)
    assert 0.93 < covered < 0.995


def test_tangos_interval_leaves_out_0_just_where_mcnemars_asymptotic_test_rejects():
    for only_a in range(15):
        for only_b in range(15):
            low, high = paired_difference(only_a, only_b, 100)
            assert (low > 0 or high < 0) == ((only_a - only_b) ** 2 > Z**2 * (only_a + only_b))


def test_whatever_mcnemars_exact_test_shows_the_asymptotic_one_and_so_the_interval_shows_too():
    for differing in range(1, 1000):
        only_b = np.arange(differing // 2 + 1)
        shown = only_b[2 * stats.binom.cdf(only_b, differing, 0.5) < 0.05]
        assert ((differing - 2 * shown) ** 2 > Z**2 * differing).all()


@pytest.mark.parametrize("counts", [(0, 0, 0), (-1, 0, 5), (3, 3, 5)])
def test_counts_that_are_no_part_of_the_pairs_are_refused(counts):
    with pytest.raises(ValueError, match="pairs"):
        paired_difference(*counts)


def test_the_spread_of_seeds_agrees_with_statsmodels():
    values = [0.951, 0.947, 0.962, 0.9585]
    found = spread(values)
    reference = DescrStatsW(values)
    assert found.n == 4
    assert found.mean == pytest.approx(reference.mean, abs=1e-12)
    assert found.deviation == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(reference.tconfint_mean(), abs=1e-9)


def test_one_seed_has_no_spread():
    assert (spread([0.9]).deviation, spread([0.9]).low, spread([0.9]).high) == (None, None, None)


@pytest.mark.parametrize("values", [[], [0.9, float("nan")]])
def test_no_figures_have_no_spread(values):
    with pytest.raises(ValueError, match="no spread"):
        spread(values)
