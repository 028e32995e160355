"""Paths of a camera around a scene, for animations."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dfa_bench.tasks.view_synthesis.scenes import Scene

ELEVATION = math.radians(30)  # of the orbit around synthetic scenes, as in Mildenhall et al.'s videos
FOCUS = 4.0  # depth at which cameras of forward-facing scenes look, three times the nearest bound
SPREAD = 0.8  # quantile of the cameras' offsets that a path through forward-facing scenes stays in


def orbit(scene: Scene, frames: int) -> list[Tensor]:
    """Poses (3, 4) of a closed path: a circle around synthetic scenes, an ellipse before real ones."""
    positions = torch.stack([view.pose[:, 3] for view in scene.views("train")])
    angles = [2 * math.pi * frame / frames for frame in range(frames)]
    if scene.ndc:
        reach = torch.quantile(positions.abs(), SPREAD, dim=0)
        target, up = torch.tensor([0.0, 0.0, -FOCUS]), torch.tensor([0.0, 1.0, 0.0])
        places = [reach * torch.tensor([math.cos(angle), math.sin(angle), 0.0]) for angle in angles]
    else:
        radius = positions.norm(dim=-1).mean()
        target, up = torch.zeros(3), torch.tensor([0.0, 0.0, 1.0])
        flat, height = math.cos(ELEVATION), math.sin(ELEVATION)
        places = [radius * torch.tensor([flat * math.cos(a), flat * math.sin(a), height]) for a in angles]
    return [look(place, target, up) for place in places]


def look(position: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """Pose (3, 4) of a camera at a position that looks at a target; all (3,)."""
    backward = torch.nn.functional.normalize(position - target, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, backward), dim=0)
    return torch.stack([right, torch.linalg.cross(backward, right), backward, position], dim=1)
