"""Records and rows from elsewhere: what comes in, and what does not."""

import json
import shutil
import stat
import zipfile

import pytest

from dfa_bench.data.writing import CHECKSUM, sealed
from dfa_bench.experiments.collection import collect, pack
from dfa_bench.runs.ledger import Ledger
from dfa_bench.runs.record import Record
from dfa_bench.training.execute import execute


@pytest.fixture
def recorded(smoke) -> list[Record]:
    return [Record(execute(smoke(f"rule={rule}", "trainer.max_epochs=2")).folder) for rule in ("bp", "dfa")]


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "results" / "runs.csv")


def test_an_archive_comes_home_as_it_was_and_once(recorded, tmp_path, ledger):
    archive, store = tmp_path / "runs.zip", tmp_path / "home"
    assert pack(recorded, archive, weights=False) == 2
    assert archive.stat().st_size < 2 * 5000
    first = collect([archive], store, ledger)
    assert (len(first.added), first.known, first.conflicts, first.refused) == (2, 0, [], [])
    for record in recorded:
        for name in ("config.yaml", "metrics.jsonl", "result.json"):
            assert (store / record.folder.name / name).read_bytes() == (record.folder / name).read_bytes()
        assert not (store / record.folder.name / "model.pt").exists()
    again = collect([archive, recorded[0].folder.parent], store, ledger)
    assert (again.added, again.known, again.conflicts, again.refused) == ([], 4, [], [])


def test_a_store_brings_its_weights(recorded, tmp_path, ledger):
    collect([recorded[0].folder.parent], tmp_path / "home", ledger)
    name = recorded[0].folder.name
    assert (tmp_path / "home" / name / "model.pt").read_bytes() == recorded[0].model.read_bytes()


def test_rows_of_another_machine_are_added_and_conflicts_named(recorded, tmp_path, ledger):
    runs = [record.read_result() for record in recorded]
    other = Ledger(tmp_path / "other.csv")
    other.add(runs)
    ledger.add([runs[0].__class__.from_record({**runs[0].to_record(), "metrics": {"test/accuracy": 0.125}})])
    found = collect([tmp_path / "other.csv"], tmp_path / "home", ledger)
    assert found.added == [runs[1].identity]
    (conflict,) = found.conflicts
    assert f"the run {runs[0].identity} has other numbers" in conflict
    assert "test/accuracy 0.125 here" in conflict
    assert Ledger(ledger.path).runs[runs[0].identity].metrics == {"test/accuracy": 0.125}, "ours stay"


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.yaml", "result.json"])
def test_a_damaged_record_is_refused(recorded, tmp_path, ledger, name):
    path = recorded[0].folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found = collect([path.parent.parent], tmp_path / "home", ledger)
    assert len(found.added) == len(found.refused) == 1
    assert not (tmp_path / "home" / path.parent.name).exists()


def altered(record: Record, **values: object) -> None:
    """Change a record and its checksums as somebody would who knows the format."""
    content = json.loads(record.result.read_text())
    del content[CHECKSUM]
    record.result.write_text(sealed({**content, "files": {}, **values}))


def test_a_record_that_is_not_the_run_it_claims_to_be_is_refused(recorded, tmp_path, ledger):
    altered(recorded[0], identity="0123456789abcdef")
    (told,) = collect([recorded[0].folder.parent], tmp_path / "home", ledger).refused
    assert "its settings and data make the run" in told


def test_a_record_cannot_have_code_imported(recorded, tmp_path, ledger, monkeypatch):
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()\nclass Model: pass")
    monkeypatch.syspath_prepend(tmp_path)
    text = recorded[0].config.read_text().replace("dfa_bench.tasks.graphs.models.GCN", "hostile.Model")
    assert "hostile" in text
    recorded[0].config.write_text(text)
    altered(recorded[0])
    (told,) = collect([recorded[0].folder.parent], tmp_path / "home", ledger).refused
    assert "names code of the package hostile" in told
    assert not (tmp_path / "executed").exists()


def test_yaml_of_a_record_builds_nothing_but_plain_values(recorded, tmp_path, ledger):
    mark = tmp_path / "executed"
    with recorded[0].config.open("a") as file:
        file.write(f"extra: !!python/object/apply:os.system ['touch {mark}']\n")
    altered(recorded[0])
    (told,) = collect([recorded[0].folder.parent], tmp_path / "home", ledger).refused
    assert "config.yaml is damaged" in told
    assert not mark.exists()


def link(archive: zipfile.ZipFile, name: str) -> None:
    member = zipfile.ZipInfo(f"{name}/model.pt")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(member, "/etc/passwd")


HOSTILE = {
    "a path outside": lambda archive, name: archive.writestr("../outside/result.json", "{}"),
    "an absolute path": lambda archive, name: archive.writestr("/result.json", "{}"),
    "a deeper path": lambda archive, name: archive.writestr(f"{name}/deeper/result.json", "{}"),
    "another file": lambda archive, name: archive.writestr(f"{name}/__init__.py", "import os"),
    "a link": link,
    "a bomb": lambda archive, name: archive.writestr("bomb/config.yaml", b"0" * 2**21),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_writes_nothing_but_its_good_records(recorded, tmp_path, ledger, kind):
    archive = tmp_path / "runs.zip"
    pack(recorded[:1], archive, weights=False)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as file:
        HOSTILE[kind](file, recorded[0].folder.name)
    shutil.rmtree(recorded[0].folder.parent)
    before = set(tmp_path.rglob("*"))
    found = collect([archive], tmp_path / "home", ledger)
    assert len(found.refused) == len(found.added) == 1
    new = set(tmp_path.rglob("*")) - before
    home = tmp_path / "home" / recorded[0].folder.name
    assert new <= {
        home.parent,
        home,
        *(home / name for name in ("config.yaml", "metrics.jsonl", "result.json", ".lock")),
    }


def test_the_commands_bring_runs_from_one_store_to_another(recorded, tmp_path, say):
    archive, root = tmp_path / "runs.zip", recorded[0].folder.parent
    status, said, _ = say("pack", archive, "rule=dfa", f"store.root={root}")
    assert status == 0
    assert ": 1 run," in said
    where = f"store.root={tmp_path / 'home'}", f"results={tmp_path / 'results'}"
    assert say("collect", archive, *where)[:2] == (
        0,
        "1 run added, 0 here already, 0 differ from those here, 0 refused.\n",
    )
    assert say("pack", archive, "rule=fa", f"store.root={root}")[0] == 2
    assert "is neither a run store" in say("collect", tmp_path / "nothing", *where)[2]
