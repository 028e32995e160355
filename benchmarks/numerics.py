"""Whether other numerics give other results: one cell of each table, in float32 and otherwise, paired over seeds.

    python benchmarks/numerics.py trainer.precision=bf16-mixed [scale=gpu ...] [--only gcn gae] [--seeds 5] [--rule dfa]

Both runs of a pair start from the same weights and take the same batches. Printed: the mean difference of the paper's
metric with its 95% interval (paired t), and the standard deviation over seeds in float32. "The same" means that the 90%
interval lies within one such deviation on either side (two one-sided tests at 5%), so that the other numerics move a
result by less than another seed does; "differs", that the 95% interval leaves zero out; else more seeds are needed.
Runs are kept in --store: repeat the command to go on, or with more seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from dfa_bench.errors import UserError
from dfa_bench.settings.compose import compose_settings
from dfa_bench.training.execute import Outcome, execute


class Cell(NamedTuple):
    overrides: tuple[str, ...]
    metric: str
    factor: float = 1.0  # of the metric, as tables show it


# Settings of the second run of each pair; all others are of both.
NUMERICS = ("trainer.precision=", "trainer.tf32=", "trainer.compile=", "trainer.capture=")

CELLS = {
    "nerf": Cell(("task=view_synthesis", "dataset=lego"), "test/psnr"),  # Table 1
    "deepfm": Cell(("task=clicks", "model=deepfm"), "test/auc"),
    "gcn": Cell(("task=nodes", "model=gcn", "dataset=cora"), "test/accuracy", 100),
    "gae": Cell(("task=links", "model=gae", "dataset=cora"), "test/auc"),
    "transformer": Cell(("task=language", "feedback=macro"), "val/perplexity"),  # Table 5
}


def run(cell: Cell, seed: int, settings: list[str], store: Path) -> Outcome:
    more = ["trainer.progress=none", f"store.root={store}", f"seed={seed}"]
    return execute(compose_settings([*cell.overrides, *more, *settings]))


def compare(name: str, cell: Cell, options: argparse.Namespace) -> str:
    other_numerics = [each for each in options.settings if each.startswith(NUMERICS)]
    common = [each for each in options.settings if each not in other_numerics]
    folder = "_".join(other_numerics).replace("=", "-")
    values, numerics = [], set()
    for seed in range(options.seeds):
        plain = run(cell, seed, [*common, f"rule={options.rule}"], options.store / "fp32")
        other = run(cell, seed, [*common, f"rule={options.rule}", *other_numerics], options.store / folder)
        if unfinished := [each.folder for each in (plain, other) if cell.metric not in each.result.metrics]:
            raise UserError(f"{unfinished[0]} has no {cell.metric}: the run diverged. Lower recipe.lr for both.")
        values.append([cell.factor * each.result.metrics[cell.metric] for each in (plain, other)])
        numerics.add((plain.result.numerics, other.result.numerics))
    if len(numerics) > 1:
        raise UserError(f"{options.store} has runs of several kinds of numerics: {numerics}. Give another --store.")
    return f"{name:<12} {cell.metric:<15} {verdict(np.array(values))}   {' / '.join(numerics.pop())}"


def verdict(values: np.ndarray) -> str:
    """Of (seeds, 2): in float32, and with the other numerics."""
    difference, spread = values[:, 1] - values[:, 0], values[:, 0].std(ddof=1)
    if not difference.any():
        return f"float32 {values[:, 0].mean():.4g} ± {spread:.2g}; equal for each of {len(values)} seeds: the same"
    test = stats.ttest_1samp(difference, 0)
    low, high = test.confidence_interval(0.95)
    narrow = test.confidence_interval(0.90)
    same = -spread < narrow.low and narrow.high < spread
    found = "differs" if low > 0 or high < 0 else "the same" if same else "more seeds are needed"
    return (
        f"float32 {values[:, 0].mean():.4g} ± {spread:.2g}; difference {difference.mean():+.2g} "
        f"[{low:.2g}, {high:.2g}], p = {test.pvalue:.2f}, {len(values)} seeds: {found}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "settings",
        nargs="*",
        help="precision, tf32, compile and capture of trainer: of one run of each pair; anything else: of both",
    )
    parser.add_argument("--only", nargs="+", default=["gcn", "gae"], choices=list(CELLS), help="default: gcn gae")
    parser.add_argument("--seeds", type=int, default=5, help="at least 3; default: 5")
    parser.add_argument("--rule", default="dfa")
    parser.add_argument("--store", type=Path, default=Path("build/numerics"))
    options = parser.parse_intermixed_args()
    options.settings = options.settings or ["trainer.precision=bf16-mixed"]
    if options.seeds < 3:
        parser.error(f"--seeds {options.seeds}: a spread needs at least 3.")
    if not any(each.startswith(NUMERICS) for each in options.settings):
        parser.error("say what to compare with float32, such as trainer.precision=bf16-mixed or trainer.tf32=true")
    for name in options.only:
        try:
            print(compare(name, CELLS[name], options), flush=True)
        except UserError as error:
            raise SystemExit(f"{name}: {error}") from error


if __name__ == "__main__":
    main()
