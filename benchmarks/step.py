"""Time and memory of a training step: DFA against BP on one MLP, interleaved in one process.

    python benchmarks/step.py [--rows 16384] [--width 256] [--depth 8] [--steps 30]

BP does three matrix products a layer (forward, input gradient, weight gradient), DFA two: the limit is 0.67.
The overhead is that of hooks and bookkeeping, in CPU time and at a width where products take none, less what BP takes
for the input gradients that DFA leaves out.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, Rule

RULES: dict[str, Rule] = {"bp": Backprop(), "dfa": DirectFeedback(seed=0)}


def mlp(width: int, depth: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def learner(rule: str, inputs: Tensor, width: int, depth: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = mlp(width, depth)
    points = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU)]
    RULES[rule].attach(model, FeedbackPath(points), example=inputs[:2])
    return model, torch.optim.Adam(model.parameters(), lr=1e-4)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor) -> float:
    begin = time.perf_counter()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
    return time.perf_counter() - begin


def peak_memory(rule: str, options: argparse.Namespace) -> float:
    """Peak resident memory (MiB) of a process that takes three steps by one rule and nothing else."""
    command = [sys.executable, __file__, "--only", rule]
    command += [f"--{name}={getattr(options, name)}" for name in ("rows", "width", "depth", "threads")]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def overhead(shallow: int = 2, deep: int = 34, steps: int = 10, rounds: int = 40) -> tuple[float, float]:
    """What DFA takes more than BP at width 8 and one row, in µs: a step, and a point."""
    inputs, targets, more = torch.randn(1, 8), torch.zeros(1, dtype=torch.long), []
    for depth in (shallow, deep):
        models = {rule: learner(rule, inputs, 8, depth)[0] for rule in RULES}
        least = dict.fromkeys(RULES, float("inf"))
        for _ in range(rounds):
            for rule, model in models.items():
                begin = time.thread_time()
                for _ in range(steps):
                    nn.functional.cross_entropy(model(inputs), targets).backward()
                least[rule] = min(least[rule], (time.thread_time() - begin) / steps)
        more.append(1e6 * (least["dfa"] - least["bp"]))
    a_point = (more[1] - more[0]) / (deep - shallow)
    return more[0] - shallow * a_point, a_point


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 16384), ("width", 256), ("depth", 8), ("steps", 30), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", choices=RULES, help="three steps of one rule, then print peak memory")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    inputs, targets = torch.randn(options.rows, options.width), torch.randint(10, (options.rows,))

    if options.only:
        for _ in range(3):
            step(*learner(options.only, inputs, options.width, options.depth), inputs, targets)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return

    learners = {rule: learner(rule, inputs, options.width, options.depth) for rule in RULES}
    for _ in range(3):  # warm-up
        for pair in learners.values():
            step(*pair, inputs, targets)
    ratios, seconds = [], []
    for _ in range(options.steps):
        bp, dfa = (step(*learners[rule], inputs, targets) for rule in ("bp", "dfa"))
        ratios.append(dfa / bp)
        seconds.append(bp)
    low, median, high = statistics.quantiles(ratios, n=4)
    print(
        f"{options.depth} x {options.width} MLP, {options.rows} rows, {options.threads} threads, {options.steps} pairs"
    )
    print(f"BP step: {1000 * statistics.median(seconds):.0f} ms (median)")
    print(f"DFA / BP time: {median:.3f} (median), quartiles {low:.3f} to {high:.3f}; 2 of 3 products would be 0.667")
    print("Overhead of DFA: {:.0f} µs a step and {:.1f} µs a point".format(*overhead()))
    memory = {rule: peak_memory(rule, options) for rule in RULES}
    print(f"Peak memory: BP {memory['bp']:.0f} MiB, DFA {memory['dfa']:.0f} MiB")


if __name__ == "__main__":
    main()
