"""The committed table of multi-view consistency is what Figure 1 measured."""

import json
from pathlib import Path

import dfa_bench
from dfa_bench.reporting.consistency import consistency_grid
from dfa_bench.reporting.grid import markdown

RESULTS = Path(dfa_bench.__file__).parent.parent / "results"


def test_the_committed_consistency_is_that_of_the_committed_figure():
    evidence = json.loads((RESULTS / "figure1.json").read_text())
    assert (RESULTS / "figure1.md").read_text() == markdown(consistency_grid(evidence))
    assert {(each["scene"], each["rule"]) for each in evidence} == {
        (scene, rule) for scene in ("lego", "chair", "fern", "flower") for rule in ("bp", "dfa", "shallow")
    }


def test_an_empty_scene_has_nothing_to_warp():
    views = {"view": "r_0", "neighbour": "r_1", "warp_psnr": None, "warp_share": 0.0}
    text = markdown(consistency_grid([{"scene": "chair", "rule": "bp", "seed": 0, "psnr": 14.2} | views]))
    assert "| chair | BP, seed 0 | 14.20 | r_0 → r_1 | nothing to warp | 0% |" in text
