"""Secrets that are planted in the environment and in overrides reach no record, archive, log or dashboard."""

import zipfile
from pathlib import Path

import pytest

from dfa_bench.errors import ConfigError, without_secrets

USER, TOKEN, KEY = "user:pa55word", "t0ken-of-somebody", "0123456789abcdef" * 2 + "a1b2c3d4"
URL = f"https://{USER}@example.org/raw?token={TOKEN}&page=2"


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefgh")
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.chdir(tmp_path)


def leaks(text: bytes) -> list[bytes]:
    return [secret for each in (USER, "pa55word", TOKEN, KEY, "hf_abcdefgh") if (secret := each.encode()) in text]


@pytest.mark.parametrize(
    "text, shown",
    [
        (URL, "https://***@example.org/raw?token=***&page=2"),
        (f"host: /raw?X-Amz-Signature={TOKEN} failed", "host: /raw?X-Amz-Signature=*** failed"),
        (f"'https://a.b/c?sig={TOKEN}'", "'https://a.b/c?sig=***'"),
        (f"tag {KEY}, {KEY}", "tag ***, ***"),
        ("blocks.*.after@x, https://example.org/a@b?page=1, key=3", None),
    ],
)
def test_what_is_secret_is_taken_out_and_nothing_else(text, shown):
    assert without_secrets(text) == (shown or text)
    assert str(ConfigError(text)) == (shown or text)


def test_no_file_or_output_of_runs_sweeps_and_archives_has_one(say, tmp_path):
    fixed = ["scale=smoke", "trainer.accelerator=cpu", "trainer.max_epochs=1", f"dataset.url='{URL}'", "rule=bp"]
    fixed += ["logger=wandb", "logger.mode=offline", "logger.tags=['${oc.env:HF_TOKEN}']", "store.root=runs"]
    done, *said = say("run", "-m", *fixed, "seed=0,1")
    absent = ["data.stand_in=false", "data.root=none", "data.cache=none", "data.download=false"]
    lacking, *told = say("run", "-m", *absent, *fixed)
    packed, *_ = say("pack", "runs.zip", "store.root=runs")
    assert (done, lacking, packed) == (0, 1, 0), (said, told)
    assert "https://***@example.org/raw?token=***" in told[1], "the message names the source of the data"
    assert "Failed: dfa-bench run" in told[0]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"config.yaml", "multirun.yaml", "runs.zip", "job-1.json"} <= {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    assert {path: leaks(path.read_bytes()) for path in files if leaks(path.read_bytes())} == {}
    assert leaks("".join([*said, *told]).encode()) == []
    with zipfile.ZipFile("runs.zip") as archive:
        (first, *_) = [archive.read(name) for name in archive.namelist() if name.endswith("config.yaml")]
    assert b"***@example.org" in first
    assert leaks(first) == []
