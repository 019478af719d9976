"""Charts for a page, and maps over photos."""

import numpy as np

from fieldguide.report import charts
from fieldguide.report.figures import overlay
from tests.report.made_up import epoch

EPOCHS = [epoch(number) for number in range(1, 7)]


def test_a_chart_takes_its_colours_from_the_page_and_keeps_its_text():
    svg = charts.curve(EPOCHS, "loss", "one")
    assert "var(--validation)" in svg and "#040404" not in svg and "epoch</text>" in svg and "DejaVu" not in svg


def test_two_charts_share_no_id():
    first, second = (charts.curve(EPOCHS, "loss", name) for name in ("one", "two"))
    assert 'id="one-' in first and 'id="one-' not in second


def test_a_map_over_a_photo_leaves_what_does_not_speak_grey():
    photo = np.full((2, 2, 3), (200, 100, 0), dtype=np.uint8)
    seen = overlay(photo, np.array([[0, 1], [0, 0]], dtype=np.float32))
    assert len(set(seen[0, 0].tolist())) == 1 and seen[0, 1, 0] > seen[0, 1, 2]
