"""What each rule says of its settings and paths: all that can change gradients, nothing that is a default."""

import json

import pytest

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackAlignment, FeedbackPath, Shallow

PATHS = [FeedbackPath(["b", "a"], error_at="head", cuts=["c"]), FeedbackPath(("a",), batch_axes=2)]
BARE = [{"points": ["b", "a"], "error_at": "head", "cuts": ["c"]}, {"points": ["a"], "batch_axes": 2}]


@pytest.mark.parametrize(
    "rule, expected",
    [
        (Backprop(), {}),
        (Shallow(), {"cuts": ["a", "b", "c"]}),
        (DirectFeedback(), {"paths": BARE}),
        (
            DirectFeedback(3, "normal", 0.5, shared=False),
            {"seed": 3, "distribution": "normal", "scale": 0.5, "shared": False, "paths": BARE},
        ),
        (FeedbackAlignment(), {}),
        (FeedbackAlignment(seed=2, scale=0.5), {"seed": 2, "scale": 0.5}),
    ],
)
def test_an_outcome_has_what_can_change_gradients(rule, expected):
    found = rule.outcome(PATHS)
    assert found == expected
    assert json.loads(json.dumps(found)) == found


def test_defaults_that_are_written_out_change_nothing():
    bare, full = FeedbackPath(["a"]), FeedbackPath(("a",), None, [], None, False)
    for rule in (Backprop(), Shallow(), DirectFeedback(), FeedbackAlignment()):
        assert rule.outcome([bare]) == rule.outcome([full])
