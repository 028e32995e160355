"""The file that the table of bootstrap intervals is made from."""

import pytest

from dfa_bench.errors import ConfigError
from dfa_bench.reporting.bootstrap import read_bootstrap


def test_none_is_none_and_another_file_is_refused(tmp_path):
    assert read_bootstrap(tmp_path / "nothing.csv") is None
    for content in ("", "a,b\n1,2\n"):
        (tmp_path / "x.csv").write_text(content)
        with pytest.raises(ConfigError, match="was not written by `dfa-bench bootstrap`"):
            read_bootstrap(tmp_path / "x.csv")
