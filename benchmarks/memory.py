"""Memory and time of forward and backward by depth: streaming DFA, DFA and checkpointing against BP, on one MLP.

    python benchmarks/memory.py [--depths 16 64 256] [--rows 512] [--width 512] [--steps 5] [--device cuda]

Memory is the most that a step allocates at a time, beside weights and their gradients. Checkpointing is that of PyTorch
with sqrt(depth) segments, the best number. In matrix products a layer, BP takes three, DFA two, streaming three
(two forwards and the weight's gradient), checkpointing four.
"""

import argparse
import math
import statistics
import time
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint_sequential

from dfa_bench.feedback import DirectFeedback, FeedbackPath

RULES = {"DFA": DirectFeedback(seed=0), "streaming DFA": DirectFeedback(seed=0, streaming=True)}
METHODS = ("BP", "checkpointing", *RULES)


def mlp(width: int, depth: int, device: str) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(depth)]
    return nn.Sequential(*blocks, nn.Linear(width, 10)).to(device)


class Learner:
    """A model of some depth that learns by one method."""

    def __init__(self, options: argparse.Namespace, depth: int, method: str) -> None:
        self.device, self.depth, self.method = torch.device(options.device), depth, method
        self.model = mlp(options.width, depth, options.device)
        self.inputs = torch.randn(options.rows, options.width, device=options.device)
        self.targets = torch.randint(10, (options.rows,), device=options.device)
        if method in RULES:
            path = FeedbackPath([str(block) for block in range(depth)], error_at=str(depth))
            RULES[method].attach(self.model, path, example=self.inputs[:2])
        for _ in range(3):  # gradients are there from now on, and streaming has compared its two forwards
            self._backward()

    def seconds(self) -> float:
        """Of one forward and backward."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        self._backward()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def mib(self) -> float:
        """The most that one forward and backward has allocated at a time, beside what was there before."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self._backward()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            self._backward()
        events = [each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
        events.sort(key=lambda event: event.start_ns())
        return max(accumulate(event.nbytes() for event in events)) / 2**20

    def _backward(self) -> None:
        self.model.zero_grad(set_to_none=False)
        nn.functional.cross_entropy(self._forward(), self.targets).backward()

    def _forward(self) -> Any:
        if self.method == "checkpointing":
            segments = round(math.sqrt(self.depth))
            return checkpoint_sequential(self.model, segments, self.inputs, use_reentrant=False)
        return self.model(self.inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[16, 64, 256])
    for name, default in (("rows", 512), ("width", 512), ("steps", 5), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"MLPs of width {options.width}, {options.rows} rows, {options.device}, {options.threads} threads, float32")
    for depth in options.depths:
        learners = {method: Learner(options, depth, method) for method in METHODS}
        mib = {method: each.mib() for method, each in learners.items()}
        measured = [{method: each.seconds() for method, each in learners.items()} for _ in range(options.steps)]
        for method in METHODS:
            ratios = [each[method] / each["BP"] for each in measured]
            low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
            seconds = statistics.median(each[method] for each in measured)
            print(
                f"depth {depth:4}  {method:13} {mib[method]:7.1f} MiB  {1000 * seconds:7.0f} ms, {middle:.2f} of BP's "
                f"time (quartiles {low:.2f} to {high:.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
