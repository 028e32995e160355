"""Click logs: preprocessing against two usual ways, memory on ten million rows, and where an epoch's time goes.

    python benchmarks/ctr.py [--rows 300000] [--big-rows 10000000] [--vocabulary 1000000]

Preprocessing: the same ids and labels by a row-by-row reader, as common PyTorch packages for factorisation machines
have it, by pandas, and by ours; in one process, one after the other. Memory: a generated file of --big-rows, read by a
process that may not allocate more than 2 GiB. Training: a BP step of the paper's models over --vocabulary ids, 2048
rows, by part, with dense and with lazy Adam.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from dfa_bench.settings.schema import RecipeSettings
from dfa_bench.tasks.click_through.compact import compact
from dfa_bench.tasks.click_through.criteo import COLUMNS, read_chunks
from dfa_bench.tasks.click_through.models import AFN, FM, AutoInt, DeepCross, DeepFM
from dfa_bench.training.optimizer import build_optimizer

LIMIT = 2 * 2**30  # bytes
MIN_COUNT = 10
BLOCK = 100_000  # rows that are generated at a time


def generate(path: Path, rows: int) -> None:
    """A file of Criteo's layout: Zipf-distributed categories over up to millions of values, some empty."""
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            columns = [pd.Series(random.integers(0, 2, count).astype(str))]
            for field in range(39):
                spread = 1.2 + 0.05 * (field % 13)
                values = random.zipf(spread, count) % 2**32
                text = [f"{v:08x}" for v in values] if field >= 13 else (values % 1000).astype(str)
                columns.append(pd.Series(text).where(random.random(count) > 0.1, ""))
            pd.concat(columns, axis=1).to_csv(file, sep="\t", header=False, index=False, lineterminator="\n")


def by_rows(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Two passes over the lines, a dictionary per field, an array per row."""

    def features(line: str) -> tuple[str, list[object]]:
        label, *values = line.rstrip("\n").split("\t")
        out: list[object] = []
        for field, value in enumerate(values):
            if value == "":
                out.append(None)
            elif field < 13:
                x = int(value)
                out.append(math.floor(math.log(x) ** 2) if x > 2 else x - 2)
            else:
                out.append(int(value, 16))
        return label, out

    counts: list[Counter[object]] = [Counter() for _ in range(39)]
    with path.open() as file:
        for line in file:
            for field, key in enumerate(features(line)[1]):
                counts[field][key] += 1
    numbers, offset = [], 0
    for counter in counts:
        frequent = sorted(key for key, count in counter.items() if key is not None and count >= MIN_COUNT)  # type: ignore[type-var]
        numbers.append(({key: offset + 2 + n for n, key in enumerate(frequent)} | {None: offset + 1}, offset))
        offset += 2 + len(frequent)
    ids, labels = [], []
    with path.open() as file:
        for line in file:
            label, keys = features(line)
            row = np.zeros(39, np.int32)
            for field, key in enumerate(keys):
                row[field] = numbers[field][0].get(key, numbers[field][1])
            labels.append(int(label))
            ids.append(row)
    return np.stack(ids), np.array(labels, np.uint8)


def by_pandas(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Whole columns in memory."""
    kinds = {name: "str" if name.startswith("c") else "Int64" for name in COLUMNS}
    frame = pd.read_csv(path, sep="\t", header=None, names=COLUMNS, dtype=kinds)
    columns, offset = [], 0
    for name in COLUMNS[1:]:
        column = frame[name]
        if name.startswith("i"):
            values = column.to_numpy(dtype=float, na_value=np.nan)
            with np.errstate(divide="ignore", invalid="ignore"):
                column = pd.Series(np.where(values > 2, np.floor(np.log(values) ** 2), values - 2))
        counts = column.value_counts()
        frequent = sorted(counts[counts >= MIN_COUNT].index)
        number = pd.Series(np.arange(offset + 2, offset + 2 + len(frequent)), index=frequent)
        ids = column.map(number).fillna(offset)
        columns.append(ids.where(column.notna(), offset + 1).to_numpy(dtype=np.int32))
        offset += 2 + len(frequent)
    return np.stack(columns, axis=1), frame["label"].to_numpy(dtype=np.uint8)


def by_us(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        made = compact(Path(folder) / "made", "benchmark", lambda: read_chunks(path), MIN_COUNT, "all")
        return np.array(made.ids), np.array(made.labels)


def preprocessing(folder: Path, rows: int) -> None:
    path = folder / "train.txt"
    generate(path, rows)
    seconds, found = {}, {}
    for name, reader in (("row by row", by_rows), ("pandas", by_pandas), ("ours", by_us)):
        times = []
        for _ in range(1 if name == "row by row" else 3):
            begin = time.perf_counter()
            found[name] = reader(path)
            times.append(time.perf_counter() - begin)
        seconds[name] = statistics.median(times)
    for name, (ids, labels) in found.items():
        assert (ids == found["ours"][0]).all(), name
        assert (labels == found["ours"][1]).all(), name
    for name, spent in seconds.items():
        print(f"{name:<11}{rows / spent:>10.0f} rows/s   ours is {spent / seconds['ours']:.1f} times as fast")


def memory(folder: Path, rows: int) -> None:
    path = folder / "big.txt"
    generate(path, rows)
    done = subprocess.run([sys.executable, __file__, "--only", str(path)], check=True, capture_output=True, text=True)
    print(f"{rows} rows, {path.stat().st_size / 2**30:.2f} GiB of text, at most 2 GiB allocated: {done.stdout.strip()}")


def read_limited(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = compact(Path(folder) / "made", "benchmark", lambda: read_chunks(path), MIN_COUNT, "all")
        spent = time.perf_counter() - begin
        rows, vocabulary = len(made.labels), made.vocabulary
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of file pages too
    print(f"{rows} rows read in {spent:.0f} s, {vocabulary} ids, peak resident {peak:.2f} GiB (with mapped file pages)")


def training(vocabulary: int, steps: int) -> None:
    random = torch.Generator().manual_seed(0)
    batches = [torch.randint(vocabulary, (2048, 39), generator=random) for _ in range(steps)]
    for kind in (FM, DeepFM, DeepCross, AFN, AutoInt):
        for name in ("adam", "lazy_adam") if kind in (FM, DeepFM) else ("adam",):
            torch.manual_seed(0)
            model = kind(39, vocabulary)
            optimizer = build_optimizer(model, RecipeSettings(optimizer=name, lr=1e-4))  # type: ignore[arg-type]
            spent: dict[str, list[float]] = {"forward": [], "backward": [], "optimizer": []}
            for ids in batches:
                marks = [time.perf_counter()]
                loss = nn.functional.binary_cross_entropy_with_logits(model(ids), torch.zeros(len(ids)))
                marks.append(time.perf_counter())
                optimizer.zero_grad()
                loss.backward()
                marks.append(time.perf_counter())
                optimizer.step()
                marks.append(time.perf_counter())
                for part, begin, end in zip(spent, marks[:-1], marks[1:], strict=True):
                    spent[part].append(end - begin)
            shares = {part: 1000 * statistics.median(times) for part, times in spent.items()}
            per_part = ", ".join(f"{part} {value:.0f}" for part, value in shares.items())
            total, size = sum(shares.values()), sum(parameter.numel() for parameter in model.parameters())
            print(f"{kind.__name__:<10}{name:<10}{size / 1e6:5.1f} M parameters: {total:.0f} ms a step ({per_part})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000, help="of the preprocessing; 0: leave it out")
    parser.add_argument("--big-rows", type=int, default=0, help="of the file that is read in 2 GiB; 0: leave it out")
    parser.add_argument("--vocabulary", type=int, default=1_000_000, help="of the training; 0: leave it out")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        return read_limited(options.only)
    with tempfile.TemporaryDirectory() as folder:
        if options.rows:
            preprocessing(Path(folder), options.rows)
        if options.big_rows:
            memory(Path(folder), options.big_rows)
    if options.vocabulary:
        training(options.vocabulary, options.steps)
    return None


if __name__ == "__main__":
    main()
