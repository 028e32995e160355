"""What each rule says of its settings and paths: all that can change gradients, nothing that is a default."""

import json

import pytest

from dfa_bench.feedback import (
    Backprop,
    DirectFeedback,
    DirectKolenPollack,
    FeedbackAlignment,
    FeedbackPath,
    KolenPollack,
    Shallow,
    SignSymmetry,
    TargetProjection,
)
from dfa_bench.feedback.optical import Optics

PATHS = [FeedbackPath(["b", "a"], error_at="head", cuts=["c"]), FeedbackPath(("a",), batch_axes=2)]
BARE = [{"points": ["b", "a"], "error_at": "head", "cuts": ["c"]}, {"points": ["a"], "batch_axes": 2}]
OPTICS = "Optics(threshold=0.5, bits=None, noise=0.0)"


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
        (
            DirectFeedback(density=0.5, projection=Optics(bits=None)),
            {"density": 0.5, "projection": OPTICS, "paths": BARE},
        ),
        (DirectKolenPollack(), {"paths": BARE}),
        (TargetProjection(rank=3), {"rank": 3, "paths": BARE}),
        (KolenPollack(decay=0), {"decay": 0}),
        (SignSymmetry(magnitude="batch"), {"magnitude": "batch"}),
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
