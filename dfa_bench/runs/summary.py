"""What is known of a finished run: one flat summary, which is a record (result.json) and a row (runs.csv).

The fields stand here once: the columns of runs.csv, their types and their digits are read off them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from dfa_bench.data.resolve import DataCard
from dfa_bench.errors import RecordError


def _rounded(digits: int, **default: Any) -> Any:
    """A number that has so many decimals in a row."""
    return field(metadata={"digits": digits}, **default)


def _time(text: str) -> str:
    datetime.fromisoformat(text)  # ValueError if it is none
    return text


# Of one line: a control character would begin a new line of a document, or command a terminal.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$")]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A run that is done. What a row has no text for is its default."""

    identity: Text
    status: Literal["finished", "diverged"]
    task: Text
    dataset: Text
    model: Text
    rule: Text
    variant: Text
    scale: Text
    protocol: Literal["paper", "reduced"]
    seed: int
    epochs: int
    best_epoch: int | None = None
    wall_seconds: float = _rounded(2)  # of training and evaluation, over all sittings
    step_seconds: float = _rounded(6)  # mean over training steps
    steps: int
    peak_memory_mib: float | None = _rounded(0, default=None)  # None: not measured apart from other runs of its process
    finished: Annotated[str, AfterValidator(_time)]  # UTC, ISO 8601
    commit: Text | None = None  # of dfa-bench; "-dirty" with uncommitted changes
    device: Text
    threads: int
    data_name: Text
    data_kind: Literal["real", "stand-in"]
    data_rows: int
    data_sha256: Text
    versions: Text  # "python=3.11.7 torch=2.13.0 …"
    numerics: Text = ""  # what may move digits but not the experiment, "32-true, cpu"; empty in older rows
    metrics: Mapping[str, float]  # in rows a column each, with six digits; may be infinite or NaN
    message: str | None = None  # what went wrong, if the loss diverged; not in rows

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> RunSummary:
        """Read the content of a result.json.

        Raises:
            RecordError: a value is missing or impossible.
        """
        try:
            return _adapter().validate_python(values)
        except ValidationError as error:
            raise RecordError(_mistakes(error)) from None

    def to_record(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> RunSummary:
        """Read a row of runs.csv; what is no field is a metric.

        Raises:
            RecordError: a value is missing or impossible.
        """
        values: dict[str, Any] = {"metrics": {}}
        for name, text in row.items():
            if text != "":
                (values if name in FIELDS else values["metrics"])[name] = text
        return cls.from_record(values)

    def to_row(self) -> dict[str, str]:
        """Texts by column, without empty ones."""
        values = {name: getattr(self, name) for name in COLUMNS}
        for name, digits in DIGITS.items():
            if values[name] is not None:
                values[name] = round(values[name], digits or None)  # None: to a whole number
        texts = {name: str(value) for name, value in values.items() if value not in (None, "")}
        return texts | {name: f"{value:.6g}" for name, value in self.metrics.items()}

    def as_in_row(self) -> RunSummary:
        """With the digits of a row, so that a table of records is the table of their rows."""
        return self.from_row(self.to_row())

    def value(self, metric: str) -> float | None:
        """A metric, if the run has it and it is a finite number."""
        value = self.metrics.get(metric, math.nan)
        return value if math.isfinite(value) else None

    @property
    def diverged(self) -> bool:
        return self.status == "diverged"

    @property
    def stand_in(self) -> bool:
        """Whether its numbers say nothing of the paper's: they are of generated data, or of scale smoke."""
        return self.data_kind != "real" or self.scale == "smoke"

    @property
    def card(self) -> DataCard:
        """Of its data."""
        return DataCard(self.data_name, self.data_kind, self.data_rows, self.data_sha256)

    @property
    def origin(self) -> dict[str, Any]:
        """Which run a number of a figure is from."""
        return {
            "rule": self.rule,
            "identity": self.identity,
            "seed": self.seed,
            "commit": self.commit,
            "data": self.data_kind,
        }


FIELDS = {each.name: each for each in dataclasses.fields(RunSummary)}
COLUMNS = [name for name in FIELDS if name not in ("metrics", "message")]  # of runs.csv; metrics follow, by name
REQUIRED = [name for name in COLUMNS if FIELDS[name].default is dataclasses.MISSING]
DIGITS = {name: each.metadata["digits"] for name, each in FIELDS.items() if "digits" in each.metadata}


def versions_text(versions: Mapping[str, str]) -> str:
    """Software and its versions, as `RunSummary.versions` has them."""
    return " ".join(f"{name}={number}" for name, number in versions.items())


@functools.cache
def _adapter() -> TypeAdapter[RunSummary]:
    return TypeAdapter(RunSummary)


def _mistakes(error: ValidationError) -> str:
    """What is wrong with a run: "has seed=x", "lacks device, threads"."""
    lacking = [str(each["loc"][0]) for each in error.errors() if each["type"] == "missing"]
    if lacking:
        return f"lacks {', '.join(lacking)}"
    first = error.errors()[0]
    shown = str(first["input"])
    value = shown if shown.isprintable() else ascii(shown)
    return f"has {first['loc'][-1] if first['loc'][0] == 'metrics' else first['loc'][0]}={value}"
