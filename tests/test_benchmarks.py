"""The benchmark of a GPU runs without one, on the code that it runs there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.mark.skipif(not BENCHMARK.exists(), reason="an installed package has no benchmarks")
def test_the_benchmark_of_a_gpu_measures_every_row_it_is_asked_for(tmp_path):
    arguments = [
        "--only",
        "gcn, cora",
        "transformer, 8,192 tokens micro",
        "--steps",
        "1",
        "--json",
        tmp_path / "gpu.json",
    ]
    done = subprocess.run(
        [sys.executable, BENCHMARK, *map(str, arguments), "trainer.threads=1"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [(row["group"], row["rule"]) for row in found] == [
        ("Transformer, 8,192 tokens", "micro"),
        ("gcn, Cora", "bp"),
        ("gcn, Cora", "dfa"),
    ]
    assert all(row["step_ms"] > 0 and row["peak_mib"] > 0 for row in found)
    assert found[2]["ratio"] == pytest.approx(found[2]["step_ms"] / found[1]["step_ms"])
