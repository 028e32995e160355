"""Where the evidence of a claim is drawn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfa_bench.experiments.schema import Claim
from dfa_bench.reporting.claims import Checked, Evidence
from dfa_bench.reporting.page.intervals import WIDTH, bars


def checked(*evidence: tuple[float, float, float], **claim) -> Checked:
    stated = Claim.model_validate({"id": "c", "says": "s", "metric": "m", "higher": "dfa", "lower": "bp", **claim})
    places = [Evidence(str(n), 3, mean, low, high, "undecided") for n, (mean, low, high) in enumerate(evidence)]
    return Checked(stated, "undecided", places)


NUMBER = st.floats(-1e3, 1e3)


@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER).map(sorted), min_size=1, max_size=6), NUMBER)
def test_a_bar_lies_in_the_drawing_on_its_side_of_the_margin(found, by):
    claim = checked(*((mean, low, high) for low, mean, high in found), by=by)
    for bar, (low, mean, high) in zip(bars(claim).values(), found, strict=True):
        assert 0 <= bar.low <= bar.dot <= bar.high <= WIDTH
        assert (bar.low > WIDTH / 2) <= (low > by)
        assert (bar.high < WIDTH / 2) <= (high < by)
        assert 0 < bar.dot < WIDTH or mean == by


def test_a_ratio_is_drawn_by_its_logarithm():
    (twice, half) = bars(checked((2.0, 1.5, 2.5), (0.5, 0.4, 0.6), ratio=1.0)).values()
    assert twice.dot - WIDTH / 2 == pytest.approx(WIDTH / 2 - half.dot)


def test_one_place_with_few_seeds_does_not_flatten_the_others():
    first, second, _ = bars(checked((1.0, -400.0, 402.0), (1.0, 0.9, 1.1), (1.0, 0.8, 1.2))).values()
    assert (first.cut_low, first.cut_high, second.cut_low) == (True, True, False)
    assert second.dot - WIDTH / 2 > WIDTH / 10
