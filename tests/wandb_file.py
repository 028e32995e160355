"""What Weights & Biases wrote offline, read back."""

import threading
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2


def written(folder: Path) -> list[Any]:
    """The records of the one offline run below a folder, when its process has written the last."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return to_the_end(file)


def to_the_end(file: Path) -> list[Any]:
    """wandb-core, a process of its own, may still be writing when the run has finished."""
    for _ in range(600):
        found = records(file)
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        threading.Event().wait(0.1)
    raise AssertionError(f"{file} never came to its end")


def records(file: Path) -> list[Any]:
    """A .wandb file: 7 bytes ahead, then LevelDB's log format: blocks of 32 KiB with records cut into pieces."""
    content, found, piece, at = file.read_bytes(), [], b"", 7
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # no piece begins so near to the end of a block
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        piece += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found.append(wandb_internal_pb2.Record.FromString(piece))
            piece = b""
    return found


def run_of(found: list[Any]) -> Any:
    """What was said of the run at first; wandb may say it again."""
    return next(record.run for record in found if record.WhichOneof("record_type") == "run")


def history(found: list[Any]) -> list[dict[str, str]]:
    return [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]
