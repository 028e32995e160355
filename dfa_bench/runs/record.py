"""The record of one run: a folder with config.yaml, metrics.jsonl and, when it is done, result.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dfa_bench.data.writing import CHECKSUM, atomic, explained, file_crc32, sealed, unsealed
from dfa_bench.errors import RecordError, each_without_secrets
from dfa_bench.runs.summary import RunSummary, versions_text

RECORD_VERSION = 4  # of result.json; read too: 1, which was nested, 2 and 3, without a checksum of its bytes

# What stands before a module's name in a line of metrics.jsonl: mean and standard deviation of a rule's alignment with
# BP, on the first batch of that epoch, before its step.
ALIGNMENT = "alignment/"
ALIGNMENT_STD = "alignment_std/"


class Record:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.metrics = folder / "metrics.jsonl"
        self.result = folder / "result.json"
        self.checkpoint = folder / "checkpoint.pt"  # to resume from; gone when the run is done
        self.previous_checkpoint = folder / "checkpoint.previous.pt"  # the one before it, should it get damaged
        self.model = folder / "model.pt"  # the tested weights and the feedback matrices
        self.running = folder / "running.json"  # while a process does the run: see status.py
        self.failed = folder / "failed.json"  # why the last process gave up

    def read_result(self) -> RunSummary | None:
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
            version = values.pop("record_version", None)
            if version == RECORD_VERSION:
                unsealed(content)
            for name in ("files", CHECKSUM):
                values.pop(name, None)
            if version == 1:
                values = _flat(values)
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise self._damaged(error) from error
        if version not in range(1, RECORD_VERSION + 1):
            raise RecordError(
                f"{self.result} is a record of version {version}; this dfa-bench reads versions 1 to {RECORD_VERSION}. "
                f"Run it again with force=true, or move the folder away."
            )
        try:
            return RunSummary.from_record(values)
        except RecordError as error:
            raise self._damaged(f"it {error}") from None

    def _damaged(self, reason: object) -> RecordError:
        return RecordError(f"{self.result} is damaged ({reason}). Run it again with force=true, or delete the folder.")

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Write the settings, without secrets in the URLs of data: an identity does not depend on these."""
        with atomic(self.config) as file:
            file.write(OmegaConf.to_yaml(OmegaConf.create(each_without_secrets(settings))))

    def write_result(self, result: RunSummary) -> None:
        """Write the result, whole or not at all. It is the last thing that a run writes."""
        files = {path.name: file_crc32(path) for path in (self.config, self.metrics, self.model) if path.is_file()}
        with atomic(self.result) as file:
            file.write(sealed({"record_version": RECORD_VERSION, "files": files, **result.to_record()}))

    def check_files(self) -> None:
        """Check the files of a finished run by their checksums; a file that was left out, as weights may be, is none.

        Raises:
            RecordError: one is damaged.
        """
        with contextlib.suppress(ValueError):  # a record of an earlier version has no checksums
            for name, checksum in unsealed(self.result.read_bytes()).get("files", {}).items():
                path = self.folder / Path(name).name
                if path.is_file() and file_crc32(path) != checksum:
                    raise RecordError(f"{path} is damaged: it has another checksum. Run it again with force=true.")

    def append_metrics(self, line: Mapping[str, float]) -> None:
        with explained(self.metrics), self.metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def truncate_metrics(self, epoch: int) -> None:
        """Forget the epochs after the one that a run resumes from."""
        kept = [line for line in self.read_metrics() if line["epoch"] <= epoch]
        with atomic(self.metrics) as file:
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
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Forget an earlier run of the same settings."""
        for path in (self.result, self.metrics, self.model):
            path.unlink(missing_ok=True)
        self.drop_checkpoints()

    def drop_checkpoints(self) -> None:
        for path in (self.checkpoint, self.previous_checkpoint):
            path.unlink(missing_ok=True)


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a record of version 1 as those of version 2 stand."""
    values = dict(nested)
    cost, provenance = values.pop("cost"), dict(values.pop("provenance"))
    data, versions = provenance.pop("data"), provenance.pop("versions")
    return {
        **values,
        **cost,
        **provenance,
        **{f"data_{name}": data[name] for name in ("name", "kind", "rows", "sha256")},
        "versions": versions_text(versions),
    }
