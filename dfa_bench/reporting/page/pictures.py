"""Figures inside a page: files as data URIs, large rasters as WebP of their own size or smaller."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dfa_bench.errors import ConfigError
from dfa_bench.reporting.grid import Grid, cells
from dfa_bench.reporting.page.details import short
from dfa_bench.reporting.readings import read_records

SVG_AT_MOST = 400_000  # bytes; larger drawings are embedded as pixels
WIDEST = 1600  # pixels


@dataclass(frozen=True)
class Picture:
    """A figure as it is embedded.

    Args:
        anchor: its id in the page.
        title: above it.
        alt: what it shows, for those who do not see it.
        source: data URI.
        checksum: of the file that it was made from; the WebP encoder of another version of Pillow gives other bytes.
        numbers: those of the figure with their runs; None if it has none.
        command: that draws it again.
    """

    anchor: str
    title: str
    alt: str
    source: str
    checksum: str
    numbers: Grid | None
    command: str


def picture(folder: Path, name: str, title: str, alt: str, command: str) -> Picture | None:
    """The figure of this name below the results: NAME.svg if it is small, else NAME.png; None if there is neither.

    Raises:
        ConfigError: a file is damaged.
    """
    vector, raster = folder / f"{name}.svg", folder / f"{name}.png"
    if vector.is_file() and (vector.stat().st_size <= SVG_AT_MOST or not raster.is_file()):
        content = vector.read_bytes()
        source = _uri("image/svg+xml", content)
    elif raster.is_file():
        content = raster.read_bytes()
        try:
            source = _uri("image/webp", _webp(content))
        except OSError as error:
            raise ConfigError(f"{raster} is damaged ({error}). `{command}` draws it again.") from error
    else:
        return None
    checksum = hashlib.sha256(content).hexdigest()
    return Picture(
        name.replace("/", "-"), title, alt, source, checksum, _number_grid(folder / f"{name}.json", title), command
    )


def _webp(content: bytes) -> bytes:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "WEBP", quality=85, method=6)
    return out.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _number_grid(path: Path, title: str) -> Grid | None:
    """A row for each record of a figure's json file, without what is nested in it."""
    records = [
        {name: value for name, value in record.items() if not isinstance(value, (dict, list))}
        for record in read_records(path)
    ]
    if not records:
        return None
    rows = [
        cells(*(short(record.get(key)) if key == "commit" else record.get(key, "") for key in records[0]))
        for record in records
    ]
    return Grid([key.replace("_", " ") for key in records[0]], rows, f"{title}: the numbers behind it")
