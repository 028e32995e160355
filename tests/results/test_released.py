"""The committed block of evaluated models is what the committed evaluations give."""

from pathlib import Path

import dfa_bench
from dfa_bench.reporting.grid import as_csv, markdown
from dfa_bench.reporting.released import evaluated, released_grid, released_values

RESULTS = Path(dfa_bench.__file__).parent.parent / "results"


def test_the_block_of_released_models_is_what_was_evaluated():
    evaluations = evaluated(RESULTS)
    assert (RESULTS / "released.md").read_text() == markdown(released_grid(evaluations))
    assert (RESULTS / "released.csv").read_text() == as_csv(released_values(evaluations))


def test_evaluations_of_the_authors_models_have_their_protocol_and_are_of_committed_code():
    for values in evaluated(RESULTS):
        # Of chair and flower only smaller views are here than the paper's.
        assert values["protocol"] == ("paper" if values["scene"] in ("lego", "fern") else "reduced")
        assert values["data"]["kind"] == "real"
        assert "dirty" not in values["commit"]
