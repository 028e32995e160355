"""What documents quote of files."""

import pytest

from dfa_bench.errors import ConfigError
from dfa_bench.reporting.embed import embed, embed_all


def test_a_quote_is_renewed_and_the_rest_stays(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "t.md").write_text("| new |\n")
    text = "# Title\n<!-- from results/t.md -->\n\n| old |\n\n<!-- end -->\nrest\n"
    (tmp_path / "README.md").write_text(text)
    assert embed_all(tmp_path) == [tmp_path / "README.md"]
    assert (tmp_path / "README.md").read_text() == text.replace("old", "new")
    assert embed_all(tmp_path) == []


def test_a_quoted_program_is_shown_as_code(tmp_path):
    (tmp_path / "own.py").write_text("print(1)\n")
    text = "<!-- from own.py -->\n<!-- end -->\n"
    assert embed(text, tmp_path) == "<!-- from own.py -->\n\n```python\nprint(1)\n```\n\n<!-- end -->\n"


def test_a_quote_of_nothing_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"quotes .*t\.md, which does not exist"):
        embed("<!-- from results/t.md -->\n<!-- end -->\n", tmp_path)
