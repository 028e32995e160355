"""The committed bootstrap, and what its table is made from."""

from pathlib import Path

import pytest

import dfa_bench
from dfa_bench.errors import ConfigError
from dfa_bench.reporting.bootstrap import bootstrap_grid, read_bootstrap
from dfa_bench.reporting.grid import as_csv, markdown

RESULTS = Path(dfa_bench.__file__).parent.parent / "results"


def test_the_committed_bootstrap_is_the_table_of_its_values():
    values = read_bootstrap(RESULTS / "table2-bootstrap.csv")
    assert values is not None
    assert (RESULTS / "table2-bootstrap.csv").read_text() == as_csv(values)
    assert (RESULTS / "table2-bootstrap.md").read_text() == markdown(bootstrap_grid(values))


def test_none_is_none_and_another_file_is_refused(tmp_path):
    assert read_bootstrap(tmp_path / "nothing.csv") is None
    for content in ("", "a,b\n1,2\n"):
        (tmp_path / "x.csv").write_text(content)
        with pytest.raises(ConfigError, match="was not written by `dfa-bench bootstrap`"):
            read_bootstrap(tmp_path / "x.csv")
