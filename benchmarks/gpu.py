"""The cost of a training step at the paper's sizes on a GPU, and the hours that all five tables would take there.

    python benchmarks/gpu.py [trainer.capture=true ...] [--only nerf transformer] [--steps 50] [--json build/gpu.json]

Each row is a run of the suite's own trainer, on generated data of the real ones' sizes: no files are needed. Arguments
with a "=" are settings of all runs. Printed: milliseconds a step (batch included), those in which the GPU is busy, its
kernels, peak memory, DFA's time against BP's, an evaluation, and the goal. Without a GPU the same code runs at toy
size, to show that it runs.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from dfa_bench.data.resolve import DataCard
from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath
from dfa_bench.runs import provenance
from dfa_bench.runs.record import Record
from dfa_bench.settings.compose import compose_settings
from dfa_bench.settings.schema import DatasetSettings, DataSettings, RunSettings
from dfa_bench.settings.trust import TRUST
from dfa_bench.tasks.click_through.interactions import Interactions
from dfa_bench.tasks.graphs.citation import CitationGraph
from dfa_bench.tasks.language.corpus import SPLITS, Corpus, CorpusSplit, count_lines
from dfa_bench.tasks.view_synthesis.scenes import Scene
from dfa_bench.tasks.view_synthesis.standin import stand_in_scene
from dfa_bench.training.checkpoint import seed_epoch
from dfa_bench.training.cost import peak_memory_mib, reset_peak_memory
from dfa_bench.training.numerics import allow_tf32, numerics
from dfa_bench.training.trainer import Trainer, build_fabric

CRITEO_STEPS = {512: 71_626, 2048: 17_907}  # of an epoch: 80% of 45,840,617 rows, by rows a step
CRITEO_VALIDATION = 4_584_061  # rows
TRANSFORMER_STEPS = 252_000  # 20 epochs of WikiText-103, 8,192 tokens a step
SEEDS = 10  # of Tables 3 and 4; the others have one


# Data of the real ones' sizes.


class RandomScene:
    def __init__(self, name: str, size: int) -> None:
        self.size = size

    def load(self, data: DataSettings) -> Scene:
        return stand_in_scene(self.size)


class RandomClicks:
    def __init__(self, name: str, rows: int, fields: int, vocabulary: int) -> None:
        self.rows, self.fields, self.vocabulary = rows, fields, vocabulary

    def load(self, data: DataSettings) -> Interactions:
        generator, values = np.random.default_rng(0), self.vocabulary // self.fields
        skewed = (values * generator.random((self.rows, self.fields), np.float32) ** 3).astype(np.int32)
        ids = skewed.clip(max=values - 1) + np.arange(0, values * self.fields, values, dtype=np.int32)
        return Interactions("random", ids, generator.integers(0, 2, self.rows, np.uint8), self.vocabulary)


class RandomGraph:
    def __init__(self, name: str, nodes: int, edges: int, features: int, words: float, classes: int) -> None:
        self.nodes, self.edges, self.features, self.words, self.classes = nodes, edges, features, words, classes

    def load(self, data: DataSettings) -> CitationGraph:
        generator = torch.Generator().manual_seed(0)
        features = (torch.rand(self.nodes, self.features, generator=generator) < self.words).float()
        pairs = torch.randint(self.nodes, (2, self.edges), generator=generator).unique(dim=1)
        pairs = pairs[:, pairs[0] < pairs[1]]
        order, train = torch.randperm(self.nodes, generator=generator), 20 * self.classes
        labels = torch.arange(self.nodes) % self.classes
        parts = order[:train], order[train : train + 500], order[train + 500 : train + 1500]
        return CitationGraph(features, torch.cat([pairs, pairs.flip(0)], dim=1), labels, *parts)


class RandomCorpus:
    """Words of random letters, as many as fill the vocabulary."""

    def __init__(self, name: str, words: int, lines: int) -> None:
        self.name, self.words, self.lines = name, words, lines

    def card(self, data: DataSettings) -> DataCard:
        return DataCard(self.name, "stand-in", self.lines, self.load(data).sha256)

    def load(self, data: DataSettings) -> Corpus:
        generator = np.random.default_rng(0)
        letters = generator.integers(ord("a"), ord("z") + 1, (self.words, 6), np.uint8)
        words = [bytes(each).decode() for each in letters]
        order = np.concatenate([generator.permutation(self.words) for _ in range(1 + 20 * self.lines // self.words)])

        def read(split: CorpusSplit) -> Iterator[str]:
            count = self.lines if split == "train" else max(1, self.lines // 10)
            return (" ".join(words[word] for word in order[20 * line : 20 * line + 20]) for line in range(count))

        return Corpus(self.name, {split: count_lines(self.name, split, read(split)) for split in SPLITS}, read)


GRAPHS = {
    "Cora": {"nodes": 2708, "edges": 5278, "features": 1433, "words": 0.0127, "classes": 7},
    "PubMed": {"nodes": 19717, "edges": 44324, "features": 500, "words": 0.1, "classes": 3},
}
TOY_GRAPH = {"nodes": 1700, "edges": 3000, "features": 20, "words": 0.1, "classes": 3}


# What is measured.


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        group: rows whose times are compared; its first is BP.
        rule: as shown.
        overrides: of the run.
        data: class and sizes of the data; None: of the MLP.
        table: whose hours its runs count for.
        runs: of the table at the paper's protocol that are of this kind.
        steps: of each.
        evaluations: of each, on the validation split.
        views: whole test views that each renders.
        goal, goal_ratio: milliseconds, and of BP's.
    """

    group: str
    rule: str
    overrides: tuple[str, ...]
    data: tuple[type, dict[str, Any]] | None
    table: str = ""
    runs: int = 0
    steps: int = 0
    evaluations: int = 0
    views: int = 0
    goal: float | None = None
    goal_ratio: float | None = None


@dataclass
class Measured:
    """Of a row: milliseconds, MiB and hours."""

    group: str
    rule: str
    numerics: str
    step_ms: float
    peak_mib: float
    busy_ms: float | None = None
    kernels: float | None = None
    ratio: float | None = None  # to BP's step
    evaluation_ms: float = 0.0
    goal_ms: float | None = None
    goal_ratio: float | None = None
    table: str = ""
    hours: float = 0.0
    failed: str = ""
    overrides: list[str] = field(default_factory=list)


def rows(toy: bool) -> Iterator[Row]:
    """The issue's table, and what the sum of hours needs beside it."""
    yield from _scenes(toy)
    yield from _transformers(toy)
    yield from _clicks(toy)
    yield from _graphs(toy)


def _scenes(toy: bool) -> Iterator[Row]:
    data = (RandomScene, {"size": 16 if toy else 800})
    nerf = ("task=view_synthesis", "variant=released")
    settings = [
        # name, overrides, scenes, steps, test views, goal, goal of the ratio
        ("NeRF 4 x 128, 1,024 rays", (*nerf, "dataset=lego"), 8, 500_000, 200, 3.0, 0.85),
        ("NeRF 4 x 128, 4,096 rays", (*nerf, "dataset=fern"), 8, 200_000, 5, 8.0, None),
        ("NeRF 8 x 256, 1,024 rays", (nerf[0], "variant=paper", "dataset=lego"), 0, 0, 0, 8.0, 0.75),
    ]
    for name, overrides, scenes, steps, views, goal, ratio in settings:
        for rule in ("bp", "dfa", "shallow") if scenes else ("bp", "dfa"):
            aims = {"goal": goal, "goal_ratio": ratio if rule == "dfa" else None}
            yield Row(name, rule, (*overrides, f"rule={rule}"), data, "1", scenes, steps, steps // 1000, views, **aims)


def _transformers(toy: bool) -> Iterator[Row]:
    data = (RandomCorpus, {"words": 400, "lines": 60} if toy else {"words": 45_000, "lines": 40_000})
    for precision in ("32-true", "bf16-mixed"):
        fp32 = precision == "32-true"
        goal = None if fp32 else 8.0
        # Runs of Table 5: four recipes with DFA and one with shallow training for each feedback, and two with BP.
        for rule, feedback, runs in (("bp", "macro", 2), ("dfa", "macro", 5), ("dfa", "micro", 5)):
            overrides = ("task=language", f"feedback={feedback}", f"rule={rule}", "task.tokenizer_from=null")
            shown = feedback if rule == "dfa" else "bp"
            name = "Transformer, 8,192 tokens" + ("" if fp32 else ", bf16")
            overrides = (*overrides, f"trainer.precision={precision}")
            yield Row(name, shown, overrides, data, "5", runs * fp32, TRANSFORMER_STEPS, 20, goal=goal)


def _clicks(toy: bool) -> Iterator[Row]:
    sizes = {"rows": 4000, "fields": 5, "vocabulary": 100} if toy else {"rows": 400_000, "fields": 39}
    data = (RandomClicks, {"vocabulary": 1_000_000, **sizes})
    rules = {"fm": ("bp",)}
    for model in ("fm", "deepfm", "dcn", "afn", "autoint"):
        for rule in rules.get(model, ("bp", "dfa", "shallow")):
            overrides = ("task=clicks", f"model={model}", f"rule={rule}")
            settings = compose_settings([*overrides, "scale=paper"])
            epochs = settings.trainer.max_epochs
            steps = epochs * CRITEO_STEPS[settings.task.arguments["batch"]]
            goal = 1.0 if model != "autoint" else None
            yield Row(f"{model}, Criteo", rule, overrides, data, "2", 1, steps, epochs, goal=goal)


def _graphs(toy: bool) -> Iterator[Row]:
    for model in ("cheb", "gcn", "spline", "gat", "dna", "gae"):
        task = "links" if model == "gae" else "nodes"
        for name, sizes in GRAPHS.items():
            data = (RandomGraph, TOY_GRAPH if toy else sizes)
            datasets = 2 if name == "Cora" else 1  # CiteSeer's size is like Cora's
            goal = {"dna": 8.0, "gae": 2.0}.get(model, 0.7)
            epochs = 400 if model == "gae" else 250
            for rule, rules in (("bp", 2), ("dfa", 1)):  # shallow training takes no longer than BP
                overrides = (f"task={task}", f"model={model}", f"rule={rule}", f"dataset={name.lower()}")
                runs = datasets * rules * SEEDS
                table = "4" if model == "gae" else "3"
                yield Row(f"{model}, {name}", rule, overrides, data, table, runs, epochs, epochs, goal=goal)


# Measuring.


def settings_of(row: Row, extra: list[str], toy: bool, cache: str) -> RunSettings:
    assert row.data is not None
    kind, sizes = row.data
    fixed = ["trainer.progress=none", "trainer.checkpoint_seconds=1e9", f"data.cache={cache}"]
    fixed += ["scale=smoke"] if toy else ["scale=paper"]
    settings = compose_settings([*row.overrides, *fixed, *extra])
    values = {"_target_": f"{__name__}.{kind.__name__}", "name": "random", "tasks": [settings.task.name], **sizes}
    return settings.model_copy(update={"dataset": DatasetSettings.model_validate(values)})


def measure(row: Row, extra: list[str], options: argparse.Namespace, cache: str) -> Measured:
    """Time, memory and kernels of a step, and the time of an evaluation."""
    settings = settings_of(row, extra, options.toy, cache)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(build_fabric(settings), settings, Record(Path(folder)), "benchmark")
        device = trainer.fabric.device
        seed_epoch(0)
        trainer.learner.train()
        batches = _endless(trainer)
        found = _measure_steps(lambda: trainer.step(next(batches)), device, options)
        batches.close()
        evaluation = _evaluation_seconds(trainer, device, options.toy) if row.evaluations else 0.0
        view = _view_seconds(trainer, device) if row.views else 0.0
        trainer.attachment.remove()
        trainer.bar.close()
    seconds = row.steps * found["step_ms"] / 1000 + row.evaluations * evaluation + row.views * view
    return Measured(
        row.group,
        row.rule,
        numerics(settings.trainer, device, captured=trainer.state.captured),
        **found,
        evaluation_ms=1000 * evaluation,
        goal_ms=row.goal,
        goal_ratio=row.goal_ratio,
        table=row.table,
        hours=0.0 if options.toy else row.runs * seconds / 3600,
        overrides=[*row.overrides, *extra],
    )


def _endless(trainer: Trainer) -> Iterator[Any]:
    epoch = 0
    while True:
        epoch += 1
        yield from trainer.feed.batches(epoch, trainer.shard)


def _measure_steps(step: Callable[[], object], device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    reset_peak_memory(device)  # a captured step takes its memory once, during the warm-up
    for _ in range(options.warm_up):
        step()
    _wait(device)
    started = time.perf_counter()
    for _ in range(options.steps):
        step()
    _wait(device)
    found: dict[str, Any] = {"step_ms": 1000 * (time.perf_counter() - started) / options.steps}
    found["peak_mib"] = peak_memory_mib(device)
    if device.type == "cuda":
        profiled = min(options.steps, 5)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            for _ in range(profiled):
                step()
            _wait(device)
        busy, kernels = _busy(profiler)
        found |= {"busy_ms": busy / profiled, "kernels": kernels / profiled}
    return found


def _busy(profiler: profile) -> tuple[float, int]:
    """Milliseconds in which at least one kernel or copy ran, and how many there were."""
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    )
    total, reached = 0.0, -float("inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / 1000, len(spans)


def _evaluation_seconds(trainer: Trainer, device: torch.device, toy: bool) -> float:
    """Of the validation split; of click logs at the size of Criteo's."""
    trainer.model.eval()
    with torch.no_grad(), trainer.fabric.autocast():
        trainer.task.evaluate(trainer.model, "val")
        _wait(device)
        started = time.perf_counter()
        trainer.task.evaluate(trainer.model, "val")
        _wait(device)
    seconds = time.perf_counter() - started
    rows: Any = getattr(trainer.task, "rows", None)
    return seconds * CRITEO_VALIDATION / len(rows["val"]) if isinstance(rows, dict) and not toy else seconds


def _view_seconds(trainer: Trainer, device: torch.device) -> float:
    from dfa_bench.tasks.view_synthesis.views import render_view

    task: Any = trainer.task
    view = task.scene.views("test")[0]
    trainer.model.eval()
    with torch.no_grad():
        started = time.perf_counter()
        render_view(trainer.model, task.scene, view.camera, view.pose)
        _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# MLPs: what a step costs without a task.

MLPS = [
    # depth, width, rows, TF32, bfloat16, compiled, goal of the ratio
    (8, 256, 16384, False, False, False, 0.80),
    (8, 256, 16384, False, False, True, 0.80),
    (16, 1024, 16384, False, False, False, 0.72),
    (16, 4096, 8192, True, False, False, 0.72),
    (16, 4096, 8192, True, True, False, 0.72),
    (16, 4096, 8192, True, True, True, 0.72),
]


def measure_mlp(setting: tuple[Any, ...], rule: str, options: argparse.Namespace) -> Measured:
    depth, width, rows, tf32, bf16, compiled, goal = setting
    if options.toy:
        width, rows = 8, 32
    device = torch.device("cuda" if torch.cuda.is_available() and not options.toy else "cpu")
    if device.type == "cuda":
        allow_tf32(tf32)
    torch.manual_seed(0)
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(width, 10)).to(device)
    inputs, targets = torch.randn(rows, width, device=device), torch.randint(10, (rows,), device=device)
    points = FeedbackPath([name for name, module in model.named_modules() if isinstance(module, nn.ReLU)])
    attachment = (DirectFeedback(seed=0) if rule == "dfa" else Backprop()).attach(model, points, example=inputs[:2])

    def forward() -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return nn.functional.cross_entropy(model(inputs), targets)

    if compiled:  # of a function, so that hooks are traced with the model
        forward = torch.compile(forward, backend="aot_eager" if options.toy else "inductor")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=device.type == "cuda" or None)

    def step() -> None:
        optimizer.zero_grad()
        forward().backward()
        optimizer.step()

    found = _measure_steps(step, device, options)
    attachment.remove()
    how = ["bf16"] * bf16 + ["TF32"] * tf32 + ["compiled"] * compiled
    name = f"MLP {depth} x {width}, {rows:,} rows{''.join(', ' + each for each in how)}"
    return Measured(name, rule, ", ".join([*how, device.type]), **found, goal_ratio=goal if rule == "dfa" else None)


# The table.


def line(row: Measured) -> str:
    if row.failed:
        return f"{row.group:<34} {row.rule:<8} {row.failed}"
    busy = f"{row.busy_ms:8.2f} {row.kernels:7.0f}" if row.busy_ms is not None else f"{'-':>8} {'-':>7}"
    ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
    goals = [f"<= {row.goal_ms:g} ms"] if row.goal_ms else []
    goals += [f"<= {row.goal_ratio:g} of BP"] if row.goal_ratio else []
    return (
        f"{row.group:<34} {row.rule:<8} {row.step_ms:8.2f} {busy} {row.peak_mib:8.0f} {ratio:>6} "
        f"{row.evaluation_ms:8.1f} {row.hours:7.2f}  {', '.join(goals)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="of all runs, such as trainer.capture=true or trainer.tf32=true")
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="rows whose name or rule has this")
    parser.add_argument("--steps", type=int, help="timed steps of each row; 50, or 2 at toy size")
    parser.add_argument("--json", type=Path, default=Path("build/gpu.json"), help="where the numbers go too")
    options = parser.parse_intermixed_args()
    options.toy = not torch.cuda.is_available()
    options.steps = options.steps or (2 if options.toy else 50)
    options.warm_up = 5 if options.toy else 10  # more than a capture takes

    def wanted(group: str, rule: str) -> bool:
        return any(text.lower() in f"{group} {rule}".lower() for text in options.only)

    device = provenance.device_name(torch.device("cpu" if options.toy else "cuda"))
    size = "toy size: only shows that it runs" if options.toy else "the paper's sizes"
    print(f"{device}, torch {torch.__version__}, {size}; {' '.join(options.settings)}")
    print(f"{'':34} {'rule':<8} {'ms/step':>8} {'GPU busy':>8} {'kernels':>7} {'peak MiB':>8} {'/ BP':>6} ", end="")
    print(f"{'eval ms':>8} {'hours':>7}  goal")
    measured: list[Measured] = []
    bp: dict[str, float] = {}
    if not options.toy:  # a first profile slows down all steps that follow it: so that no row is without
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]):
            torch.zeros(1, device="cuda")
            torch.cuda.synchronize()

    def add(group: str, rule: str, work: Callable[[], Measured]) -> None:
        try:
            row = work()
            if row.rule == "bp":
                bp[row.group] = row.step_ms
            row.ratio = row.step_ms / bp[row.group] if row.group in bp else None
        except Exception as error:  # one row that fails costs no other; it is told
            reason = f"failed: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            row = Measured(group, rule, "", float("nan"), float("nan"), failed=reason)
        measured.append(row)
        print(line(row), flush=True)
        gc.collect()
        if not options.toy:
            torch.cuda.empty_cache()

    with tempfile.TemporaryDirectory() as cache:
        for row in rows(options.toy):
            if wanted(row.group, row.rule):
                add(row.group, row.rule, lambda row=row: measure(row, options.settings, options, cache))
        for setting in MLPS:
            name = f"MLP {setting[0]} x {setting[1]}"
            for rule in ("bp", "dfa"):
                if wanted(name, rule):
                    add(name, rule, lambda setting=setting, rule=rule: measure_mlp(setting, rule, options))

    hours = {f"Table {n}": sum(row.hours for row in measured if row.table == str(n)) for n in range(1, 6)}
    if not options.toy:
        print("\nHours on this GPU at the paper's protocol, one run after another; early stopping shortens Table 2:")
        print(", ".join(f"{name} {value:.1f}" for name, value in hours.items()) + f"; all {sum(hours.values()):.1f}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    about = {"device": device, "torch": torch.__version__, "commit": provenance.commit(), "settings": options.settings}
    content = {**about, "toy": options.toy, "hours": hours, "rows": [asdict(row) for row in measured]}
    options.json.write_text(json.dumps(content, indent=2) + "\n")
    print(f"{options.json} has these numbers.")
    if any(row.failed for row in measured):
        raise SystemExit(1)


if __name__ == "__main__":
    os.environ[TRUST] = __name__  # the random data above
    main()
