"""Epoch time of our graph models against plain PyG's, interleaved in one process on one thread.

    python benchmarks/graphs.py [--dataset cora] [--models cheb gcn spline gat dna] [--epochs 7]
    python benchmarks/graphs.py --seeds 10 --models cheb gcn gat      also: do both versions reach the same accuracy?

An epoch is a training step and an evaluation of validation and test nodes, with BP at the paper's settings. The plain
versions are PyG's own examples: dense features, its layers, normalisations cached where they can be. SplineConv needs
a compiled package, so its plain version is the formula, edge by edge, in PyTorch. Needs the real data (DFA_BENCH_DATA).
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg
from scipy import stats
from torch import Tensor, nn

from dfa_bench.settings.compose import compose_settings
from dfa_bench.settings.schema import RunSettings
from dfa_bench.tasks.base import Shard, build_task
from dfa_bench.tasks.graphs.graph import Graph
from dfa_bench.tasks.graphs.layers import spline_basis
from dfa_bench.training.optimizer import build_optimizer


class PlainCheb(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = pyg.ChebConv(features, 16, K=2), pyg.ChebConv(16, classes, K=2)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.conv1(x, edge_index)), training=self.training)
        return F.log_softmax(self.conv2(x, edge_index), dim=-1)


class PlainGCN(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = pyg.GCNConv(features, 16, cached=True), pyg.GCNConv(16, classes, cached=True)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.conv1(x, edge_index)), training=self.training)
        return F.log_softmax(self.conv2(x, edge_index), dim=-1)


class EdgewiseSplineConv(nn.Module):
    """Spline convolution as its formula stands: every edge maps its source's features with its two control points."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, in_channels, out_channels).uniform_(-1, 1) / (2 * in_channels) ** 0.5)
        self.root = nn.Parameter(torch.empty(in_channels, out_channels).uniform_(-1, 1) / in_channels**0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, edge_index: Tensor, basis: Tensor) -> Tensor:
        source, target = edge_index
        message = sum(basis[:, k : k + 1] * (x @ self.weight[k])[source] for k in range(2))
        neighbours = torch.bincount(target, minlength=len(x)).clamp(min=1).unsqueeze(1)
        total = torch.zeros(len(x), message.shape[1]).index_add(0, target, message)
        return total / neighbours + x @ self.root + self.bias


class PlainSpline(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = EdgewiseSplineConv(features, 16), EdgewiseSplineConv(16, classes)
        self.basis: Tensor | None = None

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        if self.basis is None:
            self.basis = spline_basis(Graph(x, edge_index).target_indegree(), 2)[0]
        x = F.elu(self.conv1(F.dropout(x, training=self.training), edge_index, self.basis))
        return F.log_softmax(self.conv2(F.dropout(x, training=self.training), edge_index, self.basis), dim=-1)


class PlainGAT(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.conv1 = pyg.GATConv(features, 8, heads=8, dropout=0.6)
        self.conv2 = pyg.GATConv(64, classes, heads=1, concat=False, dropout=0.6)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = F.elu(self.conv1(F.dropout(x, 0.6, self.training), edge_index))
        return F.log_softmax(self.conv2(F.dropout(x, 0.6, self.training), edge_index), dim=-1)


class PlainDNA(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.map1, self.map2 = nn.Linear(features, 128), nn.Linear(128, classes)
        self.convs = nn.ModuleList(pyg.DNAConv(128, heads=8, groups=16, dropout=0.8, cached=True) for _ in range(5))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        layers = F.dropout(F.relu(self.map1(x)), training=self.training).unsqueeze(1)
        for conv in self.convs:
            layers = torch.cat([layers, F.relu(conv(layers, edge_index)).unsqueeze(1)], dim=1)
        return F.log_softmax(self.map2(F.dropout(layers[:, -1], training=self.training)), dim=-1)


PLAIN = {"cheb": PlainCheb, "gcn": PlainGCN, "spline": PlainSpline, "gat": PlainGAT, "dna": PlainDNA}


class Ours:
    def __init__(self, settings: RunSettings) -> None:
        self.task = build_task(settings)
        torch.manual_seed(settings.seed)
        self.model = self.task.build_model()
        self.optimizer = build_optimizer(self.model, settings.recipe)

    def epoch(self) -> tuple[float, float]:
        """Train and evaluate; returns validation and test accuracy."""
        self.model.train()
        for batch in self.task.batches(1, Shard()):
            self.optimizer.zero_grad()
            self.task.loss(self.model, batch).backward()
            self.optimizer.step()
        self.model.eval()
        with torch.no_grad():
            return self.task.evaluate(self.model, "val")["accuracy"], self.task.evaluate(self.model, "test")["accuracy"]


class Plain:
    def __init__(self, settings: RunSettings) -> None:
        task = build_task(settings)
        self.x, self.edge_index = task.graph.features.to_dense(), task.graph.edge_index
        self.labels, self.nodes = task.labels, task.nodes
        torch.manual_seed(settings.seed)
        self.model = PLAIN[settings.model.name](self.x.shape[1], task.classes)
        self.optimizer = build_optimizer(self.model, settings.recipe)

    def epoch(self) -> tuple[float, float]:
        self.model.train()
        self.optimizer.zero_grad()
        train = self.nodes["train"]
        F.nll_loss(self.model(self.x, self.edge_index)[train], self.labels[train]).backward()
        self.optimizer.step()
        self.model.eval()
        with torch.no_grad():
            right = self.model(self.x, self.edge_index).argmax(-1) == self.labels
        return right[self.nodes["val"]].double().mean().item(), right[self.nodes["test"]].double().mean().item()


def settings_for(model: str, dataset: str, seed: int) -> RunSettings:
    return compose_settings(["task=nodes", f"model={model}", f"dataset={dataset}", "rule=bp", f"seed={seed}"])


def compare_speed(model: str, dataset: str, epochs: int) -> None:
    settings = settings_for(model, dataset, 0)
    learners = Plain(settings), Ours(settings)
    seconds: list[list[float]] = [[], []]
    for _ in range(epochs + 1):
        for learner, times in zip(learners, seconds, strict=True):
            begin = time.perf_counter()
            learner.epoch()
            times.append(time.perf_counter() - begin)
    plain, ours = (statistics.median(times[1:]) for times in seconds)  # the first epoch normalises and allocates
    ratios = [a / b for a, b in zip(seconds[0][1:], seconds[1][1:], strict=True)]
    print(
        f"{dataset:<9}{model:<7} plain {1000 * plain:7.1f} ms   ours {1000 * ours:7.1f} ms   "
        f"{statistics.median(ratios):5.1f} times as fast ({min(ratios):.1f} to {max(ratios):.1f})",
        flush=True,
    )


def best_test_accuracy(learner: Plain | Ours, epochs: int) -> float:
    """Test accuracy at the first epoch with the best validation accuracy."""
    return max((learner.epoch() for _ in range(epochs)), key=lambda accuracies: accuracies[0])[1]


def compare_accuracy(model: str, dataset: str, seeds: int) -> None:
    pairs = []
    for seed in range(seeds):
        settings = settings_for(model, dataset, seed)
        epochs = settings.trainer.max_epochs
        pairs.append([100 * best_test_accuracy(kind(settings), epochs) for kind in (Plain, Ours)])
    plain, ours = ([pair[side] for pair in pairs] for side in (0, 1))
    test = stats.ttest_rel(plain, ours)
    low, high = test.confidence_interval(0.95)
    print(
        f"{dataset:<9}{model:<7} BP accuracy over {seeds} seeds: plain {statistics.fmean(plain):.2f}, ours "
        f"{statistics.fmean(ours):.2f}; plain - ours in [{low:.2f}, {high:.2f}] (95%), p = {test.pvalue:.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cora", choices=["cora", "citeseer", "pubmed"])
    parser.add_argument("--models", nargs="+", default=list(PLAIN), choices=list(PLAIN))
    parser.add_argument("--epochs", type=int, default=7, help="timed pairs of epochs")
    parser.add_argument("--seeds", type=int, default=0, help="also compare accuracies over so many seeds, at least 2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for model in options.models:
        compare_speed(model, options.dataset, options.epochs)
        if options.seeds > 1:
            compare_accuracy(model, options.dataset, options.seeds)


if __name__ == "__main__":
    main()
