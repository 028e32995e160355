"""Files that appear whole or not at all, and what is found to be damaged."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dfa_bench.data.cached import made_once, remembered
from dfa_bench.data.writing import CHECKSUM, atomic, remove_leftovers, sealed, unsealed

KILLED = """
import os, signal, sys
from pathlib import Path
from dfa_bench.data.writing import atomic
with atomic(Path(sys.argv[1])) as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_write_removes_what_a_killed_one_left(tmp_path):
    path = tmp_path / "file.csv"
    path.write_text("before")
    killed = subprocess.run([sys.executable, "-c", KILLED, path])
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "before"
    assert len([*tmp_path.iterdir()]) == 2
    with atomic(path) as file:
        file.write("after")
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_text() == "after"


def test_what_a_living_process_is_writing_stays(tmp_path):
    with atomic(tmp_path / "file.csv") as file:
        file.write("one")
        remove_leftovers(tmp_path)
        with atomic(tmp_path / "file.csv") as other:
            other.write("another")
    assert (tmp_path / "file.csv").read_text() == "one"


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 1
    path.write_bytes(content)


def test_sealed_values_come_back_and_any_changed_one_is_found():
    values = {"a": 0.1, "b": [1, 2], "c": {"best": float("inf")}, "text": "é"}
    text = sealed(values)
    content = text.encode()
    assert unsealed(content) == values
    assert json.loads(content).keys() == {*values, CHECKSUM}, "it is JSON"
    for place in range(len(content)):
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        for changed in (flipped, content[:place]):
            with pytest.raises(ValueError, match="checksum"):
                unsealed(changed)


@pytest.mark.parametrize("place", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", ["values.bin", "crc32.json"])
def test_a_damaged_cache_is_made_again(tmp_path, capsys, name, place):
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "values.bin").write_bytes(bytes(range(256)))

    folder = made_once(tmp_path / "cache", "clicks", make)
    assert made_once(folder, "clicks", make) == folder
    assert len(made) == 1
    flip(folder / name, place)
    made_once(folder, "clicks", make)
    assert (folder / "values.bin").read_bytes() == bytes(range(256))
    assert len(made) == 2
    assert "is damaged: it is made again" in capsys.readouterr().err


def test_a_damaged_fact_is_worked_out_again(tmp_path):
    asked = []

    def compute() -> int:
        asked.append(True)
        return 123456

    assert [remembered(tmp_path, "fact", [], compute) for _ in range(2)] == [123456, 123456]
    assert len(asked) == 1
    (kept,) = (tmp_path / "fact").iterdir()
    kept.write_text(kept.read_text().replace("123456", "123457"))
    assert remembered(tmp_path, "fact", [], compute) == 123456
    assert len(asked) == 2
