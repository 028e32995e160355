"""A report over runs with all that can be wrong with them."""

import dataclasses
import math
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.experiments.request import Request
from dfa_bench.experiments.schema import Experiment
from dfa_bench.reporting import claims, forms
from dfa_bench.reporting.existing import Existing
from dfa_bench.reporting.page.build import build_page
from dfa_bench.reporting.page.page import Page
from dfa_bench.reporting.page.render import render
from dfa_bench.reporting.tables import Table
from dfa_bench.runs.summary import RunSummary
from tests.browser import CHROMIUM, browser
from tests.runs.summaries import summary

ODD = (
    '<script>alert(\'1\')</script>"><img src=x onerror=alert(2)> [a](javascript:alert(3)) & "x" | $(rm -rf) `y` '
    "\\ ~ ^ % # _ {z} ${w} 'q'"
)
TEXTS = ("dataset", "model", "commit", "device", "data_name", "data_sha256", "versions", "numerics", "message")  # free


def experiment(name: str = ODD, title: str = "Table 9: odd") -> Experiment:
    return Experiment.model_validate(
        {
            "name": "odd",
            "kind": "paper",
            "title": title,
            "metrics": {"accuracy": {"key": "test/accuracy", "factor": 100, "digits": 1}},
            "rules": ["bp", "dfa"],
            "rows": {name: {"overrides": [f"note={name}"]}},
            "columns": {name: {}},
            "notes": [name],
            "paper": {"accuracy": {name: {name: {"bp": 80.0, "dfa": 79.0}}}},
            "off_by": 1.0,
            "claims": [{"id": "odd", "says": name, "metric": "accuracy", "higher": "bp", "lower": "dfa"}],
        }
    )


def run(seed: int, value: float | None, **more) -> RunSummary:
    metrics = {} if value is None else {"test/accuracy": value}
    return summary(f"id{seed}", seed, metrics, **dict.fromkeys(TEXTS, ODD), **more)


def table(
    bp: Sequence[RunSummary], dfa: Sequence[RunSummary], trial: bool = False, problems: Sequence[str] = ()
) -> Table:
    made = experiment()
    values = {"bp": bp, "dfa": dfa}
    return Table(made, {cell: values[cell.rule] for cell in made.cells()}, trial, problems)


def page_of(tmp_path: Path, *tables: Table) -> Page:
    settings = run_settings(["scale=smoke"])
    found = [Existing(each, dict.fromkeys(each.experiment.cells(), settings)) for each in tables]
    return build_page(found, Request([], 0, None, tmp_path / "results", [], [], 0, None))


GOOD = [run(seed, 0.8 + seed / 100) for seed in range(3)]


def test_odd_names_are_text_in_html(tmp_path):
    text = render(page_of(tmp_path, table(GOOD, GOOD, problems=[ODD])))
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") > 5
    assert len(re.findall("<script>", text)) == 1  # our own
    assert "<img src=x" not in text
    assert 'href="javascript:' not in text


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: apt-get install chromium)")
def test_odd_names_are_text_in_a_browser(tmp_path):
    file = tmp_path / "report.html"
    file.write_text(render(page_of(tmp_path, table(GOOD, GOOD, problems=[ODD]))))
    with browser(tmp_path / "profile") as tab:
        tab.open(file, 800, 600)
        assert tab.complaints() == []
        assert tab.requests() == [file.as_uri()]
        assert tab.value("document.querySelector('th[scope=rowgroup]').innerText") == ODD


def test_odd_names_are_text_in_a_shell(tmp_path):
    (section,) = page_of(tmp_path, table(GOOD, GOOD)).tables
    line = next(iter(section.details.values())).command
    said = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == shlex.split(line)
    assert f"note={ODD}" in said.splitlines()


def test_odd_names_are_text_in_markdown_and_latex():
    made = table(GOOD, GOOD)
    text = forms.files(made)[".md"]
    line = next(line for line in text.splitlines() if "BP" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == 4
    assert not re.search(r"<(?!br>)|\]\(", line)
    assert not re.search(r"<(?!br>)|\]\(", text), "nor in what stands around the table"
    tex = forms.files(made)[".tex"].split("\\midrule")[1]
    bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]", "", tex.splitlines()[1])
    assert not set("~^%#_") & set(bare.replace("\\pm", "").partition("& BP &")[0])


def test_mixed_protocols_and_scales_are_shown_and_get_no_difference_from_the_paper(tmp_path):
    mixed = [run(0, 0.8), run(1, 0.9, protocol="reduced")]
    scales = [run(0, 0.8), run(1, 0.9, scale="paper")]
    text = forms.files(table(mixed, scales))[".md"]
    assert "85.0 ± 7.1 (n=2)<br>paper 80.0, reference" in text
    assert "(paper protocol at scale cpu and reduced protocol at scale cpu)" in text
    assert "(paper protocol at scale cpu and paper protocol at scale paper)" in text
    assert "more than one commit" not in text
    other = dataclasses.replace(run(1, 0.9), commit="another")
    assert (
        "Seeds of 1 of 2 cells were run by more than one commit"
        in forms.files(table([run(0, 0.8), other], scales))[".md"]
    )
    html = render(page_of(tmp_path, table(mixed, scales)))
    assert "(paper protocol at scale cpu and reduced protocol at scale cpu)" in html
    assert "paper 80.0, reference" in html


def test_damaged_figures_are_told_with_the_command_that_draws_them(tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "figure2.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match="dfa-bench figure 2"):
        page_of(tmp_path)
    Image.new("RGB", (4, 4)).save(results / "figure2.png")
    assert len(page_of(tmp_path).figures) == 1
    (results / "figure2.json").write_text("[{")
    with pytest.raises(ConfigError, match="Draw the figure again"):
        page_of(tmp_path)


def test_nan_and_divergence_are_counted_apart(tmp_path):
    bp = [run(0, 0.8), run(1, math.nan), run(2, None, status="diverged")]
    text = forms.files(table(bp, [run(0, None)]))[".md"]
    assert "80.0 (n=1), 1 diverged, 1 NaN" in text
    assert "Without a number, as all runs diverged or are NaN" in text
    assert "nan" not in forms.files(table(bp, [run(0, None)]))[".csv"]
    html = render(page_of(tmp_path, table(bp, [run(0, None)])))
    assert "1 diverged, 1 NaN" in html
    assert not math.isnan(table(bp, []).entries[next(iter(table(bp, []).entries))].mean)


def test_a_table_without_runs_says_what_to_do_and_tests_nothing(tmp_path):
    empty = table([], [])
    html = render(page_of(tmp_path, empty))
    assert "dfa-bench reproduce odd" in html
    assert [each.verdict for each in claims.check(empty)] == ["not tested"]
    written = forms.files(empty)
    assert written[".md"].count("|") > 2
    assert written[".tex"]
    assert written[".csv"].count("\n") == 1


def test_nothing_at_all_is_still_a_page(tmp_path):
    assert "At a glance" in render(page_of(tmp_path))


def test_stand_ins_stand_apart_without_the_papers_numbers(tmp_path):
    page = page_of(tmp_path, table(GOOD, GOOD, trial=True))
    assert (len(page.tables), len(page.stand_ins)) == (0, 1)
    html = render(page)
    assert 'id="stand-ins"' in html
    assert "paper 80.0" not in html
    assert page.checked == []
    assert 'id="stand-ins"' not in render(page_of(tmp_path, table(GOOD, GOOD)))


def test_records_that_cannot_be_read_are_named(tmp_path):
    html = render(page_of(tmp_path, table(GOOD, GOOD, problems=["runs/x/result.json is damaged."])))
    assert "runs/x/result.json is damaged." in html
    assert "Left out, as they cannot be read: 1 record." in html


def test_code_that_was_changed_is_marked(tmp_path):
    dirty = [summary("a", 0, {"test/accuracy": 0.8}, commit="0123456789abcdef-dirty")]
    assert "0123456 (changed)" in render(page_of(tmp_path, table(dirty, [])))
