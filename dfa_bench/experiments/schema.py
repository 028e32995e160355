"""A table of the paper as a file: the runs that it needs, the paper's numbers, how it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator

from dfa_bench.errors import ConfigError
from dfa_bench.settings.rules import RuleName
from dfa_bench.settings.schema import Count, Positive, Strict, Variant, explain

# What an experiment is: a table of the paper, a study of our own, a search of hyperparameters, a short first look.
Kind = Literal["paper", "study", "search", "first"]
# Beside the experiments:
FIGURE_CLAIMS = "figures.yaml"  # claims about figures, see readings.py
ALIGNMENT_PANELS = "alignment.yaml"  # see reporting/figures/alignment.py
TUNED = ".tuned.yaml"  # rates of a table, see settings/resolvers.py


class Metric(Strict):
    key: str  # in a run's metrics
    factor: Positive = 1.0  # from the run's unit to the paper's
    digits: int = 3
    bold_within: float | None = None  # a rule so near to the one it is compared with, in the paper's unit, is bold
    shown: bool = True  # false: only claims look at it


class Line(Strict):
    """A row or a column: what it adds to the overrides of its runs."""

    overrides: tuple[str, ...] = ()
    rules: tuple[RuleName, ...] = ()  # with which it is trained; all of the table's, if empty
    scales: tuple[str, ...] = ()  # at which it has runs; all, if empty
    cost: Positive = 1.0  # relative time of its runs, to start the longest first

    def has_rule(self, rule: str) -> bool:
        return not self.rules or rule in self.rules


class Row(Line):
    columns: tuple[str, ...] = ()  # where it has cells; all, if empty
    at: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # by column, overrides in place of the column's own
    mean_of: tuple[str, ...] = ()  # it has no runs of its own, but is the mean over these rows


class Column(Line):
    variants: tuple[Variant, ...] = ("released",)


class Collapse(Strict):
    """When a run has collapsed: it learned nothing, so that the seeds of a cell may fall into two groups.

    Args:
        says: in words, of the run.
        metric, not_above: two metrics of the run, the first of which is not above the second.
        rules: with which a run can collapse.
    """

    says: str
    metric: str
    not_above: str
    rules: tuple[RuleName, ...]


class Term(Strict):
    """A side of a claim, or a part of it: runs of a rule, where the claim looks unless a place of its own is named."""

    rule: RuleName
    row: str | None = None
    column: str | None = None
    metric: str | None = None


class Quoted(Strict):
    """A side of a claim that the paper quotes from elsewhere; for runs of a reduced protocol it is a reference only."""

    value: float  # in the table's unit
    says: str  # whose number it is


def _terms(value: Any) -> Any:
    """ "dfa", "dfa @ + Adam", {rule: dfa, row: Micro}, {value: 22.26, says: SRN}; of several the mean counts."""
    parts = [*value] if isinstance(value, (list, tuple)) else [value]
    for number, part in enumerate(parts):
        if isinstance(part, str):
            rule, _, column = part.partition(" @ ")
            parts[number] = {"rule": rule, "column": column or None}
    return parts


def _kind(side: Any) -> str:
    named = side if isinstance(side, dict) else vars(side)
    return "quoted" if "value" in named else "runs"


Side = Annotated[Annotated[Term, Tag("runs")] | Annotated[Quoted, Tag("quoted")], Discriminator(_kind)]
Sides = Annotated[tuple[Side, ...], BeforeValidator(_terms), Field(min_length=1)]


class Claim(Strict):
    """A conclusion of the paper: `higher` − `lower` > `by`, or `higher` / `lower` > `ratio`.

    It is about every cell of its rows and columns; where its sides name places of their own, about each once.
    """

    id: str
    says: str  # restated in our words
    of: Literal["paper", "us"] = "paper"  # whose conclusion it is
    metric: str
    higher: Sides
    lower: Sides
    by: float = 0.0  # in the table's unit
    ratio: Positive | None = None  # instead of `by`: for perplexities, say
    because: str = ""  # where this margin is from
    rows: tuple[str, ...] = ()  # all with runs of their own, if empty
    columns: tuple[str, ...] = ()  # all, if empty
    places: tuple[str, ...] = ()  # of these rows and columns only these cells, "ROW/COLUMN"; all, if empty
    variants: tuple[Variant, ...] = ()  # of these columns only these; all, if empty
    min_seeds: Annotated[int, Field(ge=2)] = 3  # of both sides, for a verdict

    @property
    def terms(self) -> list[Term]:
        """The parts of both sides that are runs."""
        return [side for side in (*self.higher, *self.lower) if isinstance(side, Term)]

    def is_about(self, row: str, column: str, variant: Variant) -> bool:
        """Whether its sides are looked up there, where they name no place of their own."""
        listed: tuple[tuple[tuple[str, ...], str], ...] = (
            (self.rows, row),
            (self.columns, column),
            (self.places, f"{row}/{column}"),
            (self.variants, variant),
        )
        return all(not names or name in names for names, name in listed)

    @model_validator(mode="after")
    def _compares_one_way(self) -> Claim:
        if self.ratio is not None and self.by:
            raise ValueError(f"claims.{self.id}: give `by` or `ratio`, not both.")
        if not self.terms:
            raise ValueError(f"claims.{self.id}: both sides are quoted. Name a rule on one of them.")
        return self


@dataclass(frozen=True)
class Cell:
    """One place of a table: runs of it differ in their seed only."""

    row: str
    column: str
    rule: str
    variant: Variant
    overrides: tuple[str, ...]
    cost: float


class CurvePanel(Strict):
    """Cells whose curves share a panel, one line each run."""

    rows: tuple[str, ...] = ()  # all, if empty
    columns: tuple[str, ...] = ()

    def has(self, cell: Cell) -> bool:
        return (not self.rows or cell.row in self.rows) and (not self.columns or cell.column in self.columns)


class Curves(Strict):
    """How `dfa-bench curves` draws a table: as it stands, a panel for each cell, over epochs."""

    over: str = "epochs"  # what the horizontal axis counts
    per_step: tuple[
        str, ...
    ] = ()  # settings whose product is how much of it a training step has; none: epochs are counted
    log: bool = False  # the vertical axis
    panels: dict[str, CurvePanel] = Field(default_factory=dict)


# Numbers by metric, row, column and rule.
PrintedNumbers = dict[str, dict[str, dict[str, dict[RuleName, float]]]]


class Experiment(Strict):
    """See `experiments/table3.yaml`."""

    name: str
    kind: Kind
    title: str
    overrides: tuple[str, ...] = ()
    metrics: dict[str, Metric]
    rules: list[RuleName]
    rows: dict[str, Row]
    columns: dict[str, Column]
    rules_across: bool = False  # a column for each rule, as in the paper's Table 1; else a line in each row
    collapse: Collapse | None = None
    seeds: Count | None = None  # at most so many, whatever is asked for: a search has its budget
    off_by: Positive | None = None  # means that differ more from the paper are listed below the table
    paper: PrintedNumbers = Field(default_factory=dict)
    code: PrintedNumbers = Field(default_factory=dict)  # of the released code, where the paper has none
    notes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    curves: Curves = Curves()

    @model_validator(mode="after")
    def _claims_are_about_the_table(self) -> Experiment:
        places = {(cell.row, cell.column, cell.rule) for cell in (*self.cells(), *(mean for mean, _ in self.means()))}
        for claim in self.claims:
            terms = claim.terms
            unknown = {*claim.rows, *(term.row for term in terms if term.row)} - {*self.rows}
            unknown |= {*claim.columns, *(term.column for term in terms if term.column)} - {*self.columns}
            unknown |= {*claim.places} - {f"{row}/{column}" for row, column, _ in places}
            unknown |= {claim.metric, *(term.metric for term in terms if term.metric)} - {*self.metrics}
            unknown |= {
                f"{term.rule} at {term.row}/{term.column}"
                for term in terms
                if term.row and term.column and (term.row, term.column, term.rule) not in places
            }
            if unknown:
                raise ValueError(f"claims.{claim.id}: the table has no {', '.join(sorted(unknown))}.")
        return self

    @model_validator(mode="after")
    def _curves_are_of_the_table(self) -> Experiment:
        for name, panel in self.curves.panels.items():
            if unknown := {*panel.rows} - {*self.rows} | {*panel.columns} - {*self.columns}:
                raise ValueError(f"curves.panels.{name}: the table has no {', '.join(sorted(unknown))}.")
        return self

    @model_validator(mode="after")
    def _rows_have_columns_of_the_table(self) -> Experiment:
        for name, row in self.rows.items():
            for key, named in (("columns", row.columns), ("at", row.at)):
                if unknown := {*named} - {*self.columns}:
                    raise ValueError(f"rows.{name}.{key}: the table has no {', '.join(sorted(unknown))}.")
        return self

    @model_validator(mode="after")
    def _means_are_of_rows_with_runs(self) -> Experiment:
        for name, row in self.rows.items():
            if wrong := [each for each in row.mean_of if each not in self.rows or self.rows[each].mean_of]:
                raise ValueError(f"rows.{name}.mean_of: {', '.join(wrong)} is not a row with runs of its own.")
        return self

    @model_validator(mode="after")
    def _collapse_is_about_metrics_of_the_table(self) -> Experiment:
        named = (self.collapse.metric, self.collapse.not_above) if self.collapse else ()
        if unknown := {*named} - {*self.metrics}:
            raise ValueError(f"collapse: the table has no metric {', '.join(sorted(unknown))}.")
        return self

    @model_validator(mode="after")
    def _paper_numbers_have_a_place(self) -> Experiment:
        for source, numbers in (("paper", self.paper), ("code", self.code)):
            for metric, rows in numbers.items():
                for row, columns in rows.items():
                    for column in columns:
                        if metric not in self.metrics or row not in self.rows or column not in self.columns:
                            raise ValueError(f"{source}.{metric}.{row}.{column} is not a cell of the table.")
        return self

    @property
    def shown(self) -> dict[str, Metric]:
        """The metrics that the table shows."""
        return {name: metric for name, metric in self.metrics.items() if metric.shown}

    def cells(self) -> list[Cell]:
        """All places with runs, row by row."""
        return [
            Cell(
                row,
                column,
                rule,
                variant,
                (
                    *self.overrides,
                    *in_row.overrides,
                    *in_row.at.get(column, in_column.overrides),
                    f"rule={rule}",
                    f"variant={variant}",
                ),
                in_row.cost * in_column.cost,
            )
            for row, in_row in self.rows.items()
            for column, in_column in self.columns.items()
            if not in_row.mean_of and (not in_row.columns or column in in_row.columns)
            for variant in in_column.variants
            for rule in self.rules
            if in_row.has_rule(rule) and in_column.has_rule(rule)
        ]

    def means(self) -> list[tuple[Cell, list[Cell]]]:
        """Means, each with the places that it is over, in one column, with one rule and variant."""
        found = []
        for name, row in self.rows.items():
            parts: dict[tuple[str, str, Variant], list[Cell]] = {}
            for cell in self.cells():
                if cell.row in row.mean_of:
                    parts.setdefault((cell.column, cell.rule, cell.variant), []).append(cell)
            found += [(Cell(name, *place, (), 1.0), cells) for place, cells in parts.items()]
        return found

    def column_text(self, column: str, variant: Variant) -> str:
        """A column as shown: with its variant where it has several."""
        return f"{column} ({variant})" if len(self.columns[column].variants) > 1 else column

    def has_runs(self, cell: Cell, scale: str) -> bool:
        """Whether a place has runs at a scale."""
        lines = self.rows[cell.row], self.columns[cell.column]
        return all(not line.scales or scale in line.scales for line in lines)

    def paper_value(self, metric: str, cell: Cell) -> float | None:
        """The paper's number of a cell; none is of `variant=clean`, which is this suite's."""
        return None if cell.variant == "clean" else _printed(self.paper, metric, cell)

    def code_value(self, metric: str, cell: Cell) -> float | None:
        """The released code's own figure of a cell."""
        return _printed(self.code, metric, cell) if cell.variant == "released" else None


def _printed(numbers: PrintedNumbers, metric: str, cell: Cell) -> float | None:
    return numbers.get(metric, {}).get(cell.row, {}).get(cell.column, {}).get(cell.rule)


def experiment_files(folder: Path) -> Mapping[str, Path]:
    """The file of each experiment by its name; reads none of them."""
    paths = sorted(folder.rglob("*.yaml"), key=lambda path: (path.parent != folder, path))
    others = (folder / FIGURE_CLAIMS, folder / ALIGNMENT_PANELS)
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in paths
        if path not in others and not path.name.endswith(TUNED)
    }


def load_experiment(folder: Path, name: str) -> Experiment:
    """One experiment: a table of the paper ("table3"), or a study of our own ("studies/dna_feedback").

    Raises:
        ConfigError: the file has an unknown key or an impossible value.
    """
    values = OmegaConf.to_container(OmegaConf.load(experiment_files(folder)[name]))
    assert isinstance(values, dict)
    try:
        return Experiment.model_validate({"name": name, **values})
    except ValidationError as error:
        raise ConfigError(f"experiments/{name}.yaml: {explain(error)}") from None


def load_experiments(folder: Path) -> Mapping[str, Experiment]:
    """All experiments by name.

    Raises:
        ConfigError: see `load_experiment`.
    """
    return {name: load_experiment(folder, name) for name in experiment_files(folder)}
