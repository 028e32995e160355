"""NeRF on one machine: training rays a second with DFA against BP, interleaved in one process, and rendering rays a
second against a straightforward renderer, which must give the same pixels.

    python benchmarks/nerf.py [--rays 256] [--steps 20] [--width 128] [--depth 4] [--threads 2]

The peer renders as widespread PyTorch code does: 1,024 rays at a time, encodings joined from a list, positions and
directions encoded for every sample, everything flattened.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfa_bench.feedback import Backprop, DirectFeedback, FeedbackPath, Rule
from dfa_bench.tasks.view_synthesis.models import NeRF, RadianceField
from dfa_bench.tasks.view_synthesis.rays import Rays, view_rays
from dfa_bench.tasks.view_synthesis.standin import stand_in_scene
from dfa_bench.tasks.view_synthesis.views import render_view

RULES: dict[str, Rule] = {"bp": Backprop(), "dfa": DirectFeedback(seed=0)}
PATHS = [FeedbackPath([f"{field}.*.activation"], field) for field in ("coarse", "fine")]


def build(options: argparse.Namespace, coarse: int, fine: int) -> NeRF:
    torch.manual_seed(0)
    return NeRF(options.depth, options.width, None, True, coarse, fine, near=2.0, far=6.0, white_background=True)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, rays: Rays, colours: Tensor) -> float:
    begin = time.perf_counter()
    optimizer.zero_grad()
    seen = model(rays)
    (F.mse_loss(seen.coarse.colours, colours) + F.mse_loss(seen.fine.colours, colours)).backward()
    optimizer.step()
    return time.perf_counter() - begin


def training(options: argparse.Namespace) -> None:
    scene = stand_in_scene()
    rays = view_rays(scene, scene.camera, scene.views("train")[0].pose)
    rays = rays.take(torch.randint(rays.origins.shape[0], (options.rays,)))
    colours = torch.rand(options.rays, 3)
    learners = {}
    for name, rule in RULES.items():
        model = build(options, 32, 32)
        rule.attach(model, PATHS, example={"rays": rays})
        learners[name] = (model, torch.optim.Adam(model.parameters(), lr=1e-4))
    seconds: dict[str, list[float]] = {name: [] for name in RULES}
    for number in range(options.steps + 3):
        for name, learner in learners.items():
            taken = step(*learner, rays, colours)
            if number >= 3:  # after a warm-up
                seconds[name].append(taken)
    low, median, high = statistics.quantiles([b / d for b, d in zip(seconds["bp"], seconds["dfa"], strict=True)], n=4)
    speed = {name: options.rays / statistics.median(each) for name, each in seconds.items()}
    print(f"Training: BP {speed['bp']:.0f} rays/s, DFA {speed['dfa']:.0f} rays/s (medians of {options.steps})")
    print(f"DFA / BP speed: {median:.2f} (median), quartiles {low:.2f} to {high:.2f}")


def encode(x: Tensor, frequencies: int) -> Tensor:
    parts = [x]
    for power in range(frequencies):
        parts += [torch.sin(x * 2.0**power), torch.cos(x * 2.0**power)]
    return torch.cat(parts, dim=-1)


def peer_field(field: RadianceField, points: Tensor, directions: Tensor) -> Tensor:
    shape = points.shape[:2]
    flat = encode(points.reshape(-1, 3), 10)
    seen_from = encode(directions.unsqueeze(1).expand(points.shape).reshape(-1, 3), 4)
    hidden = flat
    for layer in field.trunk:
        hidden = torch.relu(layer.linear(hidden))
    feature = torch.relu(field.feature.linear(hidden))
    seen = torch.relu(field.direction.linear(torch.cat([feature, seen_from], dim=-1)))
    return torch.cat([field.colour(seen), field.density(hidden)], dim=-1).reshape(*shape, 4)


def peer_composite(raw: Tensor, depths: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    gaps = torch.cat([depths[:, 1:] - depths[:, :-1], torch.full_like(depths[:, :1], 1e10)], dim=-1)
    alpha = 1 - torch.exp(-torch.relu(raw[..., 3]) * gaps * directions.norm(dim=-1, keepdim=True))
    through = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], dim=-1), dim=-1)[:, :-1]
    weights = alpha * through
    colour = (weights.unsqueeze(-1) * torch.sigmoid(raw[..., :3])).sum(dim=1)
    return colour + (1 - weights.sum(dim=-1, keepdim=True)), weights


@torch.no_grad()
def peer_render(model: NeRF, rays: Rays, samples: tuple[int, int], chunk: int = 1024) -> Tensor:
    colours = []
    for start in range(0, rays.origins.shape[0], chunk):
        o, d, v = (each[start : start + chunk] for each in rays)
        depths = torch.linspace(2.0, 6.0, samples[0]).expand(len(o), samples[0])
        raw = peer_field(model.coarse, o[:, None] + depths[..., None] * d[:, None], v)
        _, weights = peer_composite(raw, depths, d)
        middle = 0.5 * (depths[:, 1:] + depths[:, :-1])
        density = weights[:, 1:-1] + 1e-5
        cdf = torch.cat([torch.zeros(len(o), 1), torch.cumsum(density / density.sum(-1, keepdim=True), -1)], dim=-1)
        u = torch.linspace(0, 1, samples[1]).expand(len(o), samples[1]).contiguous()
        above = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[1] - 1)
        low, high = cdf.gather(1, above - 1), cdf.gather(1, above)
        left, right = middle.gather(1, above - 1), middle.gather(1, above)
        more = left + ((u - low) / (high - low)).clamp(0, 1) * (right - left)
        depths = torch.sort(torch.cat([depths, more], dim=-1), dim=-1).values
        raw = peer_field(model.fine, o[:, None] + depths[..., None] * d[:, None], v)
        colours.append(peer_composite(raw, depths, d)[0])
    return torch.cat(colours)


def rendering(options: argparse.Namespace) -> None:
    scene = stand_in_scene(48)
    pose = scene.views("test")[0].pose
    rays = view_rays(scene, scene.camera, pose)
    model = build(options, 64, 128).eval()
    with torch.no_grad():  # a scene with something in it
        for field in (model.coarse, model.fine):
            field.density.bias += 1.0
    ours, peers = [], []
    for number in range(options.renders + 1):
        begin = time.perf_counter()
        seen = render_view(model, scene, scene.camera, pose).fine.flatten(0, 1)
        middle = time.perf_counter()
        wanted = peer_render(model, rays, (64, 128))
        end = time.perf_counter()
        if number:  # after a warm-up
            ours.append(middle - begin)
            peers.append(end - middle)
    difference = (seen - wanted).abs().max().item()
    assert difference < 1e-4, difference
    speed = [len(rays.origins) / statistics.median(each) for each in (ours, peers)]
    print(f"Rendering, 64 + 128 samples: here {speed[0]:.0f} rays/s, straightforward {speed[1]:.0f} rays/s")
    print(f"Ratio {speed[0] / speed[1]:.2f}; pixels differ by at most {difference:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"rays": 256, "steps": 20, "renders": 3, "width": 128, "depth": 4, "threads": 2}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.depth} x {options.width}, {options.rays} rays of 32 + 32 samples, {options.threads} thread(s)")
    training(options)
    rendering(options)


if __name__ == "__main__":
    main()
