"""A table in each of its forms, with texts that mean something there."""

import csv
import io
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from dfa_bench.reporting.grid import Grid, GridCell, as_csv, cells, in_parts, latex, markdown, terminal
from dfa_bench.reporting.page.render import environment

ODD = "<b>&amp; [bold]x[/] \\| | \\ $^~ % # _ {y} \"q\" 'r'"
# Without what is emphasis, code or a link in Markdown, which a text may well want.
hostile = st.text(alphabet="|<>&\\\n\"'$%#{}^~ab1 ", max_size=8).map(lambda text: f"x{text}x")


def plain(text: str) -> str:
    return " ".join(text.split())


def tables(rows: st.SearchStrategy) -> st.SearchStrategy[Grid]:
    return st.integers(1, 4).flatmap(
        lambda width: st.builds(
            Grid,
            heads=st.lists(st.just("") | hostile, min_size=width, max_size=width),
            rows=st.lists(st.lists(rows, min_size=width, max_size=width), max_size=4),
            title=st.just("") | hostile,
            notes=st.lists(hostile, max_size=2),
            numbers=st.sets(st.integers(0, width - 1)),
            grouped=st.just(width > 1),
        )
    )


grids = tables(
    st.builds(GridCell, text=st.just("") | hostile, aside=st.just("") | hostile, bold=st.booleans(), link=st.just(""))
)


@given(grids)
def test_markdown_keeps_every_text_in_its_cell(grid):
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown(grid))
    opened = [token.type for token in tokens]
    assert opened.count("tr_open") == 1 + len(grid.rows)
    inline = [
        "".join(child.content for child in token.children or [])
        for before, token in pairwise(tokens)
        if before.type in ("th_open", "td_open")
    ]
    wanted = [*grid.heads, *(cell.whole for row in grid.rows for cell in row)]
    assert [plain(text) for text in inline] == [plain(text) for text in wanted]


@given(grids)
def test_csv_gives_every_text_back(grid):
    read = list(csv.reader(io.StringIO(as_csv(grid), newline="")))
    assert [row for row in read if row] == [
        row for row in ([*grid.heads], *([cell.text for cell in row] for row in grid.rows)) if row
    ]


@given(grids)
def test_latex_has_no_character_that_does_something(grid):
    comment, *lines = latex(grid).splitlines()
    assert comment.startswith("%")
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(body) == len(grid.rows)
    for line in body:
        assert len(re.findall(r"(?<!\\)&", line)) == len(grid.heads) - 1
        bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum)\{\}|\\[&%$#_{}]|\\(mathbf|textbf)\{", "", line)
        assert not set("~^%#_") & set(bare)


class Cells(HTMLParser):
    """Texts of the cells, and the tags that there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


def html(grid: Grid) -> str:
    return str(environment().get_template("grid.html.jinja").module.grid_table(grid))


@given(grids)
def test_html_shows_every_text_and_makes_no_element_of_it(grid):
    read = Cells(html(grid).partition("</table>")[0])
    assert read.tags <= {"div", "table", "caption", "span", "thead", "tbody", "tr", "th", "td", "strong"}
    wanted, group = list(grid.heads[1:] if grid.grouped else grid.heads), None
    for row in grid.rows:
        if grid.grouped and row[0].text != group:
            group = row[0].text
            wanted.append(group)
        first, *rest = row[1:] if grid.grouped else row
        wanted += [first.text, *(cell.whole for cell in rest)]
    assert [plain(text) for text in read.texts] == [plain(text) for text in wanted]


def shown(grid: Grid) -> str:
    console = Console(width=200, record=True, file=io.StringIO(), color_system=None)
    console.print(terminal(grid))
    return console.export_text()


def test_brackets_are_text_on_a_terminal():
    text = shown(Grid([ODD, "n"], [cells(ODD, 1)], ODD, [ODD], numbers={1}))
    assert text.count(ODD) == 4


def wide(rows: int, columns: int) -> Grid:
    lines = [cells(f"row {at}", *(f"{at}-{to}.5 ± 1.25 (n=3)" for to in range(columns))) for at in range(rows)]
    heads = ["", *(f"column {to}, tuned per token" for to in range(columns))]
    return Grid(heads, lines, "Title", ["Note."], numbers=range(1, columns + 1))


@given(st.integers(1, 3), st.integers(1, 12), st.integers(40, 200))
def test_no_number_is_in_pieces_on_a_narrow_terminal(rows, columns, width):
    grid, console = wide(rows, columns), Console(width=width, record=True, file=io.StringIO(), color_system=None)
    parts = in_parts(grid, width)
    console.print(*map(terminal, parts))
    text = console.export_text()
    for row in grid.rows:
        assert [text.count(cell.text) for cell in row] == [len(parts), *(columns * [1])]
    assert text.count("Title") == text.count("Note.") == 1


def test_a_part_of_a_table_has_the_rows_that_say_something_in_it():
    grid = wide(2, 4)
    (name, a, b, _, _), (other, _, _, c, d), nothing = *grid.rows, GridCell("")
    rows = [[name, a, b, nothing, nothing], [other, nothing, nothing, c, d]]
    parts = in_parts(Grid(grid.heads, rows, numbers=grid.numbers), 60)
    assert [[row[0].text for row in part.rows] for part in parts] == [["row 0"], ["row 1"]]


def test_a_table_that_fits_or_has_no_numbers_is_one():
    assert in_parts(wide(2, 3), 200) == [wide(2, 3)]
    assert in_parts(Grid(["", "n"], [], numbers={1}), 60) == [Grid(["", "n"], [], numbers={1})]
    words = Grid(["a", "b"], [cells("word " * 40, "word " * 40)])
    assert in_parts(words, 60) == [words]


def test_a_cell_has_a_second_line_a_label_and_weight():
    grid = Grid(
        ["", "a"], [[GridCell("BP"), GridCell("79.2 ± 0.9", "(n=3)", "paper 79.0", bold=True)]], "T", ["Below."]
    )
    assert markdown(grid) == ("## T\n\n| | a |\n| --- | --- |\n| BP | **79.2 ± 0.9 (n=3)**<br>paper 79.0 |\n\nBelow.\n")
    labelled = Grid(["claim"], [[GridCell("DFA | BP", label="near-bp")]])
    assert markdown(labelled) == "| claim |\n| --- |\n| `near-bp`: DFA \\| BP |\n"
    assert "near-bp" in shown(labelled)
    assert "paper 79.0" in shown(grid)


def test_numbers_are_mathematics_in_latex():
    rows = [[GridCell("Cora_1"), GridCell("79.2 ± 0.9", "[10] (79.0)", bold=True)], cells("CiteSeer", None)]
    assert latex(Grid(["", "100%"], rows, "Table 3", ["Mean +- std."], numbers={1})).splitlines() == [
        "% Table 3. Mean +- std.",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & 100\% \\",
        r"\midrule",
        r"Cora\_1 & $\mathbf{79.2 \pm 0.9}$ [10] (79.0) \\",
        r"CiteSeer &  \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


@pytest.mark.parametrize(
    "cell, made",
    [
        (GridCell("1", link="runs-1"), '<td class="number"><a href="#runs-1">1</a></td>'),
        (GridCell("1", quiet="paper 2", flag="▼"), '<span class="by off">▼ paper 2</span>'),
        (GridCell("DFA", look="rule dfa"), '<span class="rule dfa">DFA</span>'),
        (GridCell("", label="8990dd"), "<code>8990dd</code>"),
        (GridCell('"><script>', link='"><script>'), 'href="#&#34;&gt;&lt;script&gt;"'),
    ],
)
def test_a_cell_of_the_page(cell, made):
    assert made in html(Grid(["a", "b"], [[GridCell("row"), cell]], numbers={1}))
