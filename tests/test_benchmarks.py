"""The benchmark of a GPU runs without one, as it runs there; those of memory and numerics count what they say."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
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


@pytest.fixture(scope="module")
def numerics():
    if not BENCHMARK.exists():
        pytest.skip(WITHOUT)
    spec = importlib.util.spec_from_file_location("numerics", BENCHMARK.with_name("numerics.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "other, found",
    [
        ([0, 0, 0, 0, 0], "equal for each of 5 seeds: the same"),
        ([0.1, -0.1, 0.2, -0.2, 0.05], "the same"),
        ([2.0, 2.1, 1.9, 2.0, 2.05], "differs"),
        ([5.0, -4.0, 3.0, -5.0, 2.0], "more seeds are needed"),
    ],
)
def test_other_numerics_are_the_same_where_they_move_less_than_a_seed(numerics, other, found):
    plain = np.array([80.0, 81.0, 79.0, 80.5, 79.5])
    assert numerics.verdict(np.stack([plain, plain + other], axis=1)).endswith(found)


def test_numerics_are_compared_by_real_runs_which_are_kept(numerics, tmp_path):
    arguments = ["trainer.precision=bf16-mixed", "scale=smoke", "trainer.max_epochs=2", "--only", "gcn", "--seeds", "3"]
    arguments += ["--store", tmp_path]
    first, again = (
        subprocess.run(
            [sys.executable, BENCHMARK.with_name("numerics.py"), *map(str, arguments)], capture_output=True, text=True
        )
        for _ in range(2)
    )
    assert first.returncode == 0, first.stdout + first.stderr
    assert "3 seeds" in first.stdout
    assert "fp32, cpu / bf16-mixed, cpu" in first.stdout
    assert again.stdout == first.stdout
    results = [json.loads(path.read_text()) for path in tmp_path.glob("**/result.json")]
    assert [result["epochs"] for result in results] == [2] * 6
