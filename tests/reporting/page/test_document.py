"""A written document that the report quotes."""

from pathlib import Path

import dfa_bench
from dfa_bench.reporting.page.build import DEVIATIONS
from dfa_bench.reporting.page.document import read_document

TEXT = """# Title

before

| a | b |
| --- | --- |
| x \\| y | <b> `c` [d](e.md) **f** ![g](h.png) |

below, *so* <script>

1. first
2. second

## Next

gone
"""


def test_a_quoted_table_keeps_its_text_and_leads_nowhere():
    found = read_document(TEXT, "t")
    assert found is not None
    assert (found.grid.title, [str(head) for head in found.grid.heads]) == ("t", ["a", "b"])
    assert [[str(cell.text) for cell in row] for row in found.grid.rows] == [
        ["x | y", "&lt;b&gt; <code>c</code> d <strong>f</strong> g"]
    ]
    assert "<p>below, <em>so</em> &lt;script&gt;</p>" in found.below
    assert found.below.count("<li>") == 2
    assert "gone" not in found.below


def test_what_is_generated_behind_a_comment_is_left_out():
    found = read_document(TEXT.replace("1. first", "<!-- from results/x.md -->\n\n1. first"), "t")
    assert found is not None
    assert "first" not in found.below


def test_a_document_without_a_table_is_none():
    assert read_document("no table\n", "t") is None


def test_the_deviations_are_found_in_their_document():
    found = read_document((Path(dfa_bench.__file__).parents[1] / DEVIATIONS).read_text(), "t")
    assert found is not None
    assert [str(head) for head in found.grid.heads] == ["what", "paper", "released code", "here"]
    assert len(found.grid.rows) > 10
    assert "<a " not in found.below + "".join(cell.text for row in found.grid.rows for cell in row)
