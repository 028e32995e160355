"""The Transformer of Table 5 on one machine: training tokens a second and peak memory with macro and micro feedback
against BP, interleaved in one process; and the floating-point operations of a step, counted, from which the time of the
paper's training on one GPU follows.

    python benchmarks/language.py [--layers 6] [--width 512] [--vocabulary 32000] [--streams 8] [--threads 2]
"""

import argparse
import gc
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, Rule
from dfa_bench.tasks.language.models import Transformer
from dfa_bench.training.cost import peak_memory_mib, reset_peak_memory

MACRO = ["blocks.*.after_feed_forward"]
MICRO = ["blocks.*.after_attention", "blocks.*.feed_forward.hidden", *MACRO]
LEARNERS: dict[str, tuple[Rule, list[str]]] = {
    "BP": (Backprop(), MACRO),
    "macro": (DirectFeedback(), MACRO),
    "micro": (DirectFeedback(), MICRO),
}
CONTEXT = 128
PAPER_TOKENS = 20 * 103_227_021  # 20 epochs of WikiText-103, with one token a word: a lower bound
GPUS = {"V100, float32": 15.7e12, "A100, bfloat16": 312e12, "H100, bfloat16": 989e12}  # peak, dense (data sheets)
UTILISATION = 0.4  # of the peak: an assumption


def build(options: argparse.Namespace, rule: Rule, points: list[str]) -> nn.Module:
    torch.manual_seed(0)
    width = options.width
    model = Transformer(options.vocabulary, options.layers, width // 64, width, 4 * width, 0.1, CONTEXT, "post")
    rule.attach(model, FeedbackPath(points, "last_hidden"), example=torch.zeros(1, 2, dtype=torch.long))
    return model


def loss_of(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def step(model: nn.Module, optimizer: torch.optim.Optimizer, tokens: torch.Tensor) -> float:
    begin = time.perf_counter()
    optimizer.zero_grad()
    loss_of(model, tokens).backward()
    optimizer.step()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 6), ("width", 512), ("vocabulary", 32000), ("streams", 8), ("steps", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tokens = torch.randint(options.vocabulary, (options.streams, CONTEXT + 1))
    seconds: dict[str, list[float]] = {name: [] for name in LEARNERS}
    learners = {}
    memory, operations = {}, {}
    for name, (rule, points) in LEARNERS.items():
        model = build(options, rule, points)
        learners[name] = (model, torch.optim.Adam(model.parameters(), lr=1e-4))
        with FlopCounterMode(display=False) as counter:
            loss_of(model, tokens).backward()
        operations[name] = counter.get_total_flops() / (options.streams * CONTEXT)
        step(*learners[name], tokens)  # the optimizer's state is there from now on
        gc.collect()
        cpu = torch.device("cpu")
        reset_peak_memory(cpu)
        before = peak_memory_mib(cpu)
        step(*learners[name], tokens)
        memory[name] = peak_memory_mib(cpu) - before
    for _ in range(options.steps):
        for name, learner in learners.items():
            seconds[name].append(step(*learner, tokens))
    shape = f"{options.layers} layers, width {options.width}, vocabulary {options.vocabulary}"
    print(
        f"{shape}, {options.streams} × {CONTEXT} tokens a step, {options.threads} threads; medians of {options.steps}"
    )
    for name in LEARNERS:
        speed = options.streams * CONTEXT / statistics.median(seconds[name])
        ratios = [own / bp for own, bp in zip(seconds[name], seconds["BP"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{name:6} {speed:8.0f} tokens/s, {middle:.2f} of BP's time (quartiles {low:.2f} to {high:.2f}), "
            f"{operations[name] / operations['BP']:.2f} of BP's products, {operations[name] / 1e6:.0f} MFLOP a token, "
            f"peak above weights and optimizer {memory[name]:.0f} MiB"
        )
    if (options.layers, options.width, options.vocabulary) == (6, 512, 32000):
        print(f"Table 5's training, {PAPER_TOKENS / 1e9:.2f} billion tokens or more, at {UTILISATION:.0%} of the peak:")
        for gpu, peak in GPUS.items():
            hours = {name: PAPER_TOKENS * each / (peak * UTILISATION) / 3600 for name, each in operations.items()}
            print(f"  {gpu:16} " + ", ".join(f"{name} {each:.1f} h" for name, each in hours.items()))


if __name__ == "__main__":
    main()
