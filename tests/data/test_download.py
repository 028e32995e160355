"""Where the files of a data set come from: the data folder, the cache, the official source; and what goes wrong."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfa_bench.data.resolve import Files, find
from dfa_bench.errors import CorruptData, MissingData
from dfa_bench.settings.schema import DataSettings
from tests.data.server import served

CONTENT = {f"ind.toy.{part}": f"{part} of a toy graph\n".encode() * 50 for part in ("x", "graph", "test.index")}


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """An HTTP server on this machine with the raw files of a toy data set."""
    monkeypatch.delenv("DFA_BENCH_DATA", raising=False)
    put(tmp_path / "official", CONTENT)
    with served(tmp_path / "official", monkeypatch) as url:
        yield toy(url)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> Files:
    """The same files at a port that nobody listens to."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("DFA_BENCH_DATA", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return toy(f"http://127.0.0.1:{port}")


@pytest.fixture
def data(tmp_path: Path) -> DataSettings:
    return DataSettings(root=str(tmp_path / "root"), cache=str(tmp_path / "cache"))


def toy(url: str) -> Files:
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
    return Files("Toy", "planetoid/Toy/raw", sums, url)


def put(folder: Path, content: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name).write_bytes(text)


def visible(folder: Path) -> dict[str, bytes]:
    """Files that a reader of the data set would see."""
    return {path.name: path.read_bytes() for path in folder.glob("ind.*")}


def test_a_missing_data_set_is_downloaded_into_the_cache_and_nothing_into_the_root(official, data, tmp_path):
    (tmp_path / "root").mkdir()
    folder = find(official, data)
    assert folder == tmp_path / "cache" / "planetoid/Toy/raw"
    assert visible(folder) == CONTENT
    assert list((tmp_path / "root").iterdir()) == []


def test_files_in_the_root_are_used_as_they_are(unreachable, data, tmp_path):
    folder = tmp_path / "root" / "planetoid/Toy/raw"
    put(folder, CONTENT)
    assert find(unreachable, data) == folder
    assert visible(folder) == CONTENT
    assert sorted(path.name for path in folder.iterdir()) == sorted(CONTENT)
    assert not (tmp_path / "cache").exists()


def test_a_complete_cache_needs_no_network(official, unreachable, data):
    assert find(official, data) == find(unreachable, data)


def test_an_interrupted_download_fetches_only_what_it_lacks(official, data, tmp_path):
    folder = tmp_path / "cache" / "planetoid/Toy/raw"
    put(folder, {"ind.toy.x": CONTENT["ind.toy.x"]})
    before = (folder / "ind.toy.x").stat().st_mtime_ns
    assert visible(find(official, data)) == CONTENT
    assert (folder / "ind.toy.x").stat().st_mtime_ns == before


def test_a_server_that_serves_something_else_leaves_no_file_under_its_name(official, data, tmp_path):
    put(tmp_path / "official", {"ind.toy.graph": b"<html>please log in</html>"})
    with pytest.raises(MissingData, match=r"The download failed.*graph.*ind\.toy|hash") as caught:
        find(official, data)
    assert "ind.toy.graph" not in visible(tmp_path / "cache" / "planetoid/Toy/raw")
    assert official.url in str(caught.value)


def test_a_file_that_the_server_does_not_have_is_named(official, data, tmp_path):
    (tmp_path / "official" / "ind.toy.graph").unlink()
    with pytest.raises(MissingData, match=r"404.*ind\.toy\.graph"):
        find(official, data)


def test_without_network_the_message_says_where_it_looked_and_what_to_do(unreachable, data, tmp_path):
    with pytest.raises(MissingData) as caught:
        find(unreachable, data)
    message = str(caught.value)
    for place in ("root", "cache"):
        assert str(tmp_path / place / "planetoid/Toy/raw") in message
    for fact in ("Toy was not found", unreachable.url, "DIR/planetoid/Toy/raw", "data.root=DIR", "scale=smoke"):
        assert fact in message


def test_an_interrupted_download_without_network_says_so_as_well(unreachable, data, tmp_path):
    put(tmp_path / "cache" / "planetoid/Toy/raw", {"ind.toy.x": CONTENT["ind.toy.x"]})
    with pytest.raises(MissingData, match="Toy was not found.*The download failed.*data.root=DIR"):
        find(unreachable, data)


def test_downloads_that_are_off_are_not_tried(official, data, tmp_path):
    with pytest.raises(MissingData, match="Downloads are off"):
        find(official, data.model_copy(update={"download": False}))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("place", ["root", "cache"])
def test_a_truncated_file_is_named_with_its_size_and_both_checksums(official, data, tmp_path, place):
    folder = tmp_path / place / "planetoid/Toy/raw"
    put(folder, {**CONTENT, "ind.toy.x": CONTENT["ind.toy.x"][:-1]})
    with pytest.raises(CorruptData) as caught:
        find(official, data)
    message = str(caught.value)
    actual = hashlib.sha256(CONTENT["ind.toy.x"][:-1]).hexdigest()
    for fact in (folder / "ind.toy.x", f"{len(CONTENT['ind.toy.x']) - 1} bytes", actual, official.sha256["ind.toy.x"]):
        assert str(fact) in message


def test_a_changed_file_is_noticed_though_an_earlier_check_passed(unreachable, data, tmp_path):
    folder = tmp_path / "root" / "planetoid/Toy/raw"
    put(folder, CONTENT)
    find(unreachable, data)
    (folder / "ind.toy.x").write_bytes(CONTENT["ind.toy.x"] + b"more")
    with pytest.raises(CorruptData, match=r"ind\.toy\.x"):
        find(unreachable, data)


def test_one_file_missing_of_several_in_the_root_is_named(official, data, tmp_path):
    folder = tmp_path / "root" / "planetoid/Toy/raw"
    put(folder, {name: content for name, content in CONTENT.items() if name != "ind.toy.graph"})
    with pytest.raises(CorruptData, match=r"ind\.toy\.graph is missing"):
        find(official, data)


def test_the_environment_variable_names_a_root(unreachable, data, tmp_path, monkeypatch):
    put(tmp_path / "elsewhere" / "planetoid/Toy/raw", CONTENT)
    monkeypatch.setenv("DFA_BENCH_DATA", str(tmp_path / "elsewhere"))
    assert find(unreachable, data.model_copy(update={"root": None})) == tmp_path / "elsewhere" / "planetoid/Toy/raw"


def test_a_cache_that_cannot_be_written_is_an_explained_error(official, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingData, match="The download failed.*Not a directory"):
        find(official, data.model_copy(update={"cache": str(tmp_path / "file" / "cache")}))
