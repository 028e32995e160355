"""`dfa-bench render`: render an animation from a trained NeRF."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfa_bench.commands.grammar import COUNT, FILE, RUN, Command
from dfa_bench.errors import ConfigError, Preempted

if TYPE_CHECKING:
    from PIL import Image

FORMATS = {".gif": "GIF", ".webp": "WEBP"}
MILLISECONDS = 80  # of a frame


@click.command(
    cls=Command,
    no_args_is_help=True,
    epilog="""
    dfa-bench render runs/view_synthesis-lego-nerf-dfa-s0-0123456789abcdef
    dfa-bench render RUN --width 100 --frames 60 --out orbit.webp
    """,
)
@RUN
@click.option(
    "--path",
    type=click.Choice(["orbit"]),
    default="orbit",
    show_default=True,
    help="Path of the camera: a circle around synthetic scenes, an ellipse in front of real ones.",
)
@click.option("--frames", type=COUNT, default=30, show_default=True, help="Number of frames.")
@click.option("--width", type=COUNT, metavar="PIXELS", help="Width of the images (default: that of the run's views).")
@click.option("--out", type=FILE, help="FILE.gif or FILE.webp (default: RUN/orbit.gif).")
def command(run: Path, path: str, frames: int, width: int | None, out: Path | None) -> int:
    """Render an animation along a camera path with the NeRF of a finished run of task=view_synthesis.

    RUN is the folder of its record, the last line that `dfa-bench run` prints. The scene's data are needed: the path
    follows its cameras. When interrupted, the finished frames are written.
    """
    out = out or run / f"{path}.gif"
    if out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: the name must end in {' or '.join(FORMATS)}.")
    rendered: list[Image.Image] = []
    code = 0
    try:
        _render(run, frames, width, rendered)
    except Preempted as signal:
        print(f"\n{str(signal)[:-1]} after {len(rendered)} of {frames} frames; these are kept.", file=sys.stderr)
        code = signal.status
    if rendered:
        _write(out, rendered)
        print(out)
    return code


def _render(run: Path, frames: int, width: int | None, rendered: list[Image.Image]) -> None:
    """Add frames to a list, so that those before an interruption are there."""
    import numpy as np
    from PIL import Image

    from dfa_bench.reporting.figures.trained_views import resized, settings_of_views, trained
    from dfa_bench.tasks.view_synthesis.camera_paths import orbit
    from dfa_bench.tasks.view_synthesis.views import render_view
    from dfa_bench.training.allocator import keep_freed_memory

    keep_freed_memory()
    scene, model = trained(settings_of_views(run), run)
    scene = resized(scene, width or scene.width)
    for number, pose in enumerate(orbit(scene, frames), start=1):
        seen = render_view(model, scene, scene.camera, pose, progress=f"frame {number} of {frames}")
        rendered.append(Image.fromarray((seen.fine.clamp(0, 1) * 255).round().numpy().astype(np.uint8)))


def _write(out: Path, frames: list[Image.Image]) -> None:
    from dfa_bench.data.writing import atomic

    with atomic(out, "wb") as file:
        timing = {"duration": MILLISECONDS, "loop": 0}
        frames[0].save(file, FORMATS[out.suffix.lower()], save_all=True, append_images=frames[1:], **timing)
