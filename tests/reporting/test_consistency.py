"""The table of multi-view consistency."""

from dfa_bench.reporting.consistency import consistency_grid
from dfa_bench.reporting.grid import markdown


def test_an_empty_scene_has_nothing_to_warp():
    views = {"view": "r_0", "neighbour": "r_1", "warp_psnr": None, "warp_share": 0.0}
    text = markdown(consistency_grid([{"scene": "chair", "rule": "bp", "seed": 0, "psnr": 14.2} | views]))
    assert "| chair | BP, seed 0 | 14.20 | r_0 → r_1 | nothing to warp | 0% |" in text
