"""The benchmark of a GPU runs without one, on the code that it runs there; that of memory counts what it says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
WITHOUT = "an installed package has no benchmarks"


@pytest.mark.skipif(not BENCHMARK.exists(), reason=WITHOUT)
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


@pytest.mark.skipif(not BENCHMARK.exists(), reason=WITHOUT)
def test_the_memory_of_streaming_is_measured_as_constant_in_depth():
    sizes = ["--depths", "8", "32", "--rows", "1024", "--width", "64", "--steps", "1", "--threads", "1"]
    done = subprocess.run([sys.executable, BENCHMARK.with_name("memory.py"), *sizes], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.findall(r"depth +(\d+)  (\S.*?) +([\d.]+) MiB", done.stdout)
    mib = {(method, int(depth)): float(number) for depth, method, number in found}
    assert mib["streaming DFA", 32] == mib["streaming DFA", 8] < mib["BP", 8] < mib["BP", 32] / 2
