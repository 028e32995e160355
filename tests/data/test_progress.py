"""Progress: live on a terminal, plain lines elsewhere, nothing when it is switched off."""

import io
import sys
from contextlib import redirect_stderr

import pytest

from dfa_bench.data import progress
from dfa_bench.data.download import download
from dfa_bench.data.progress import Bar, tracked
from tests.data.server import served


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(progress, "LIVE_SECONDS", 0.0)
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)


def test_off_a_terminal_there_is_a_plain_line_when_the_last_is_old_enough(capsys):
    with Bar("nodes-cora", "epoch", total=3) as bar:
        bar.to(1, "val/accuracy 0.5000")
    assert capsys.readouterr() == ("", "nodes-cora: epoch 1 of 3, val/accuracy 0.5000\n")


def test_a_plain_line_waits_unless_it_is_asked_for_at_once(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 1e9)
    with Bar("nodes-cora", "epoch", total=3) as bar:
        bar.to(1)
        bar.to(3, at_once=True)
    assert capsys.readouterr().err == "nodes-cora: epoch 3 of 3\n"


def test_bytes_are_told_in_their_units(capsys):
    with Bar("Downloading a.zip", "B", total=3_000_000, done=1_000_000) as bar:
        bar.update(500_000)
        bar.total = None
        bar.update(500_000)
    assert capsys.readouterr().err == "Downloading a.zip: 1.5 MB of 3.0 MB\nDownloading a.zip: 2.0 MB\n"


def test_nothing_is_shown_when_it_is_switched_off(capsys):
    with redirect_stderr(Terminal()) as terminal, Bar("Reading", "file", 1, shown=False) as bar:
        bar.to(1, at_once=True)
        assert list(tracked("ab", "Reading", "file", 2, shown=False)) == ["a", "b"]
    assert terminal.getvalue() == ""
    with Bar("Reading", "file", 1, shown=False) as bar:
        bar.to(1, at_once=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_name_amount_and_text():
    with redirect_stderr(Terminal()) as terminal, Bar("nodes-[cora]", "epoch", total=3, done=1, stays=True) as bar:
        bar.to(2, "val/accuracy 0.5000")
        print("a warning", file=sys.stderr)
    shown = terminal.getvalue()
    assert "nodes-[cora]" in shown
    assert shown.index("epoch 1 of 3") < shown.index("epoch 2 of 3") < shown.rindex("val/accuracy 0.5000")
    assert "a warning" in shown


def test_a_terminal_shows_the_end_even_if_it_came_a_moment_after_the_last(monkeypatch):
    monkeypatch.setattr(progress, "LIVE_SECONDS", 1e9)
    with redirect_stderr(Terminal()) as terminal, Bar("Reading", "B", total=5000, stays=True) as bar:
        bar.update(5000)
        assert "5.0 kB of 5.0 kB" not in terminal.getvalue()
    assert "5.0 kB of 5.0 kB" in terminal.getvalue()


def test_a_bar_gives_the_terminal_back_even_after_a_mistake():
    def broken() -> None:
        for _ in tracked(range(3), "Unpacking", "file", 3):
            raise KeyError

    with redirect_stderr(Terminal()) as terminal:
        with pytest.raises(KeyError):
            broken()
        assert sys.stderr is terminal
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l"), "the cursor is back"


def test_what_is_printed_during_a_live_bar_goes_to_standard_output(capsys):
    with redirect_stderr(Terminal()) as terminal, Bar("Reading", "file", 2) as bar:
        bar.update()
        print("a result")
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in terminal.getvalue()


def test_a_download_shows_how_many_bytes_have_come(tmp_path, monkeypatch):
    (tmp_path / "official").mkdir()
    (tmp_path / "official" / "corpus.txt").write_bytes(b"a" * 250_000)
    with redirect_stderr(Terminal()) as terminal, served(tmp_path / "official", monkeypatch) as url:
        download(url, {"corpus.txt": None}, tmp_path / "cache", "Toy")
    assert "Downloading corpus.txt" in terminal.getvalue()
    assert "250.0 kB of 250.0 kB" in terminal.getvalue()
    assert (tmp_path / "cache" / "corpus.txt").stat().st_size == 250_000
