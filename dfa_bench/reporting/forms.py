"""The forms of a table: Markdown, LaTeX, CSV, and lines for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.markup import escape
from rich.table import Table as RichTable

from dfa_bench.reporting.tables import Table
from dfa_bench.settings.rules import rules

CSV_COLUMNS = ["table", "row", "column", "rule", "variant", "metric", "mean", "std", "n", "paper", "scale", "protocol"]
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}


def markdown(table: Table) -> str:
    heads = table.heads()
    out = [
        f"## {table.experiment.title}",
        "",
        "| | | " + " | ".join(in_markdown(table.head_text(head)) for head in heads) + " |",
    ]
    out.append("| --- | --- |" + " --- |" * len(heads))
    for line in table.lines():
        cells = []
        for head in heads:
            entry = table.entry(line, head)
            ours, paper = table.texts(entry, head[2]) if entry else ("", "")
            ours = f"**{ours}**" if ours and table.is_bold(line, head) else ours
            cells.append(f"{ours}<br>{paper}" if paper else ours)
        out.append(f"| {in_markdown(table.row_text(line))} | {rules()[line[1]].label} | " + " | ".join(cells) + " |")
    out += ["", " ".join([table.caption(), *table.remarks()])]
    return "\n".join(out) + "\n"


def tex(table: Table) -> str:
    heads = table.heads()
    out = [r"\begin{tabular}{ll" + "r" * len(heads) + "}", r"\toprule"]
    out += [" & & " + " & ".join(in_latex(table.head_text(head)) for head in heads) + r" \\", r"\midrule"]
    for line in table.lines():
        cells = []
        for head in heads:
            entry = table.entry(line, head)
            if entry is None:
                cells.append("")
                continue
            digits = table.experiment.metrics[head[2]].digits
            spread = "" if entry.std is None else rf" \pm {entry.std:.{digits}f}"
            ours = f"{entry.mean:.{digits}f}{spread}"
            ours = rf"\mathbf{{{ours}}}" if table.is_bold(line, head) else ours
            paper = "" if entry.paper is None else f" ({entry.paper:.{digits}f})"
            cells.append(f"${ours}$ [{len(entry.values)}]{paper}")
        out.append(f"{in_latex(table.row_text(line))} & {rules()[line[1]].label} & " + " & ".join(cells) + r" \\")
    out += [r"\bottomrule", r"\end{tabular}"]
    note = f"% {table.experiment.title}. Mean +- std [number of seeds] (paper). {table.caption()}"
    return "\n".join([note, *out]) + "\n"


def csv(table: Table) -> str:
    rows = []
    for (cell, metric), entry in table.entries.items():
        where = [table.experiment.name, cell.row, cell.column, cell.rule, cell.variant, metric]
        std = None if entry.std is None else round(entry.std, 6)
        rows.append([*where, round(entry.mean, 6), std, len(entry.values), entry.paper, entry.scale, entry.protocol])
    return pd.DataFrame(rows, columns=CSV_COLUMNS).to_csv(index=False, lineterminator="\n")


def rich(table: Table) -> RichTable:
    heads = table.heads()
    shown = RichTable(title=escape(table.experiment.title), caption=escape(table.caption()), show_lines=False)
    shown.add_column("")
    shown.add_column("")
    for head in heads:
        shown.add_column(escape(table.head_text(head)), justify="right")
    lines = table.lines()
    for (row, rule), following in zip(lines, [*lines[1:], None], strict=True):
        texts = []
        for head in heads:
            entry = table.entry((row, rule), head)
            ours, paper = table.texts(entry, head[2]) if entry else ("", "")
            ours = f"[bold]{ours}[/bold]" if ours and table.is_bold((row, rule), head) else ours
            texts.append(f"{ours}\n[dim]{paper}[/dim]" if paper else ours)
        ends = following is None or following[0] != row
        shown.add_row(escape(table.row_text((row, rule))), rules()[rule].label, *texts, end_section=ends)
    return shown


def in_markdown(text: str) -> str:
    """Text of a cell, whose bars and brackets are only characters."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def in_latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
