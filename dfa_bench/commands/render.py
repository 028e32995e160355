"""`dfa-bench render`: an animation of what a finished run of view synthesis has learnt."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dfa_bench.commands.arguments import Arguments, positive
from dfa_bench.errors import ConfigError
from dfa_bench.reporting.figures.trained_views import resized, settings_of_views, trained
from dfa_bench.runs.record import atomic
from dfa_bench.tasks.view_synthesis.camera_paths import orbit
from dfa_bench.tasks.view_synthesis.views import render_view

FORMATS = {".gif": "GIF", ".webp": "WEBP"}
MILLISECONDS = 80  # of a frame


def main(arguments: Sequence[str]) -> int:
    """Render a path and write it as an animation; when it is interrupted, of the frames that are finished.

    Raises:
        ConfigError: the folder is no run of view synthesis, or an option is impossible.
        MissingData: the scene, whose cameras the path follows, is not here.
    """
    parser = Arguments("render")
    parser.add_argument("run", type=Path)
    parser.add_argument("--path", choices=["orbit"], default="orbit")
    parser.add_argument("--frames", type=positive, default=30)
    parser.add_argument("--width", type=positive, default=None)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(list(arguments))
    out = chosen.out or chosen.run / f"{chosen.path}.gif"
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: an animation ends in {' or '.join(FORMATS)}.")
    scene, model = trained(settings_of_views(chosen.run), chosen.run)
    scene = resized(scene, chosen.width or scene.width)
    frames: list[Image.Image] = []
    code = 0
    try:
        for number, pose in enumerate(orbit(scene, chosen.frames), start=1):
            seen = render_view(model, scene, scene.camera, pose, progress=f"frame {number} of {chosen.frames}")
            frames.append(Image.fromarray((seen.fine.clamp(0, 1) * 255).round().numpy().astype(np.uint8)))
    except KeyboardInterrupt:
        print(f"\nInterrupted after {len(frames)} of {chosen.frames} frames; these are kept.", file=sys.stderr)
        code = 130
    if not frames:
        return code
    with atomic(out, "wb") as file:
        timing = {"duration": MILLISECONDS, "loop": 0}
        frames[0].save(file, FORMATS[out.suffix.lower()], save_all=True, append_images=frames[1:], **timing)
    print(out)
    return code
