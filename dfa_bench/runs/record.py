"""The record of one run: a folder with config.yaml, metrics.jsonl and, when it is done, result.json."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, ValidationError

from dfa_bench.data.resolve import DataCard
from dfa_bench.errors import RecordError

RECORD_VERSION = 1

# What stands before a module's name in a line of metrics.jsonl: mean and standard deviation of DFA's alignment with BP,
# on the first batch of that epoch, before its step.
ALIGNMENT = "alignment/"
ALIGNMENT_STD = "alignment_std/"


class Cost(BaseModel):
    wall_seconds: float  # of training and evaluation, over all sittings
    step_seconds: float  # mean over training steps
    steps: int
    peak_memory_mib: float


class Provenance(BaseModel):
    finished: str  # UTC, ISO 8601
    commit: str | None  # of dfa-bench; "-dirty" with uncommitted changes
    versions: dict[str, str]
    device: str
    threads: int
    data: DataCard


class Result(BaseModel):
    """result.json: its presence means that the run is done."""

    model_config = ConfigDict(ser_json_inf_nan="constants")  # a perplexity may be infinite

    record_version: int = RECORD_VERSION
    identity: str
    status: Literal["finished", "diverged"]
    task: str
    dataset: str
    model: str
    rule: str
    variant: str
    scale: str
    protocol: Literal["paper", "reduced"]
    seed: int
    epochs: int
    best_epoch: int | None
    metrics: dict[str, float]
    cost: Cost
    provenance: Provenance
    message: str | None = None  # what went wrong, if the loss diverged

    @property
    def origin(self) -> dict[str, Any]:
        """Which run a number of a figure is from."""
        return {
            "rule": self.rule,
            "identity": self.identity,
            "seed": self.seed,
            "commit": self.provenance.commit,
            "data": self.provenance.data.kind,
        }


class Record:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.metrics = folder / "metrics.jsonl"
        self.result = folder / "result.json"
        self.checkpoint = folder / "checkpoint.pt"  # to resume from; gone when the run is done
        self.model = folder / "model.pt"  # the tested weights and the feedback matrices

    def read_result(self) -> Result | None:
        """The result, or None if the run is not done.

        Raises:
            RecordError: the file is damaged or of another version of dfa-bench.
        """
        try:
            content = self.result.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordError(f"{self.result} cannot be read: {error.strerror}.") from error
        try:
            values = json.loads(content)
            version = values.get("record_version")
            if version != RECORD_VERSION:
                raise RecordError(
                    f"{self.result} is a record of version {version}; this dfa-bench reads version {RECORD_VERSION}. "
                    f"Run it again with force=true, or move the folder away."
                )
            return Result.model_validate(values)
        except (ValidationError, ValueError, AttributeError) as error:
            raise RecordError(
                f"{self.result} is damaged ({str(error).splitlines()[0]}). "
                f"Run it again with force=true, or delete the folder."
            ) from error

    def write_config(self, settings: Mapping[str, Any]) -> None:
        with self._writing(self.config) as file:
            file.write(OmegaConf.to_yaml(OmegaConf.create(dict(settings))))

    def write_result(self, result: Result) -> None:
        """Write the result, whole or not at all. It is the last thing that a run writes."""
        with self._writing(self.result) as file:
            file.write(result.model_dump_json(indent=2) + "\n")

    def append_metrics(self, line: Mapping[str, float]) -> None:
        with _explained(self.metrics), self.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def truncate_metrics(self, epoch: int) -> None:
        """Forget the epochs after the one that a run resumes from."""
        kept = [line for line in self.read_metrics() if line["epoch"] <= epoch]
        with self._writing(self.metrics) as file:
            file.writelines(json.dumps(line) + "\n" for line in kept)

    def read_metrics(self) -> list[dict[str, float]]:
        """One dictionary per epoch; a last line that a killed run left half-written is passed over."""
        lines = []
        if self.metrics.exists():
            for text in self.metrics.read_text().splitlines():
                with contextlib.suppress(json.JSONDecodeError):
                    lines.append(json.loads(text))
        return lines

    def has_alignment(self) -> bool:
        """Whether alignment was measured in this run."""
        return any(key.startswith(ALIGNMENT) for line in self.read_metrics() for key in line)

    def create(self) -> None:
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Forget an earlier run of the same settings."""
        for path in (self.result, self.checkpoint, self.metrics, self.model):
            path.unlink(missing_ok=True)

    def _writing(self, path: Path) -> contextlib.AbstractContextManager[IO[str]]:
        return atomic(path)


@contextlib.contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Write a file that appears under its name only when it is whole and on disk.

    Raises:
        RecordError: it cannot be written (no permission, disk full).
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, mode) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)  # mkstemp makes it private
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{path} cannot be written: {error.strerror or error}. Free some space or choose another folder "
            f"(store.root=DIR for runs, results=DIR for results); the same command then goes on where it stopped."
        ) from error
