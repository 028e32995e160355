"""Which code settings may name."""

import sys
from pathlib import Path

import pytest

from dfa_bench.errors import ConfigError
from dfa_bench.experiments.protocol import run_settings
from dfa_bench.settings.components import import_class
from dfa_bench.settings.schema import Component
from dfa_bench.settings.trust import TRUST, Untrusted


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package outside of the suite that tells when it is imported; returns where it tells."""
    mark = tmp_path / "imported"
    (tmp_path / "somebodys.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass Model: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys", raising=False)
    return mark


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=somebodys.Model",
        "dataset._target_=somebodys.Model",
        "task._target_=somebodys.Model",
        "+model.activation={_target_: somebodys.Model}",
        "+model.layers=[{inner: {_target_: somebodys.Model}}]",
    ],
)
def test_code_of_another_package_is_refused_before_it_is_imported(package, override):
    with pytest.raises(
        ConfigError, match=f"names code of the package somebodys. If you trust it, .* {TRUST}=somebodys"
    ):
        run_settings(["scale=smoke", override])
    assert not package.exists()


def test_a_package_that_the_user_trusts_may_be_named(package, monkeypatch):
    monkeypatch.setenv(TRUST, "another, somebodys")
    settings = run_settings(["scale=smoke", "model._target_=somebodys.Model"])
    assert import_class(settings.model, "model").__name__ == "Model"
    assert package.exists()


@pytest.mark.parametrize(
    "target, reason",
    [
        ("dfa_bench.data.writing.os.system", "not a class of the package dfa_bench"),
        ("dfa_bench.data.writing:os.system", "not a class of the package dfa_bench"),
        ("dfa_bench.data.archive.tempfile.TemporaryDirectory", "not a class of the package dfa_bench"),
        ("dfa_bench.data.archive.fetch_folder", "not a class of the package dfa_bench"),
        ("torch.os.system", "not a class of the package torch"),
        ("torch.hub.load", "not a class of the package torch"),
        ("torch.package.PackageImporter", "not a torch.nn.Module"),
        ("os.system", "names code of the package os"),
    ],
)
def test_a_trusted_name_leads_to_no_other_code(target, reason):
    with pytest.raises(Untrusted, match=reason):
        import_class(Component(**{"_target_": target, "name": "gcn"}), "model")


def test_networks_of_pytorch_may_be_named():
    assert import_class(Component(**{"_target_": "torch.nn.Linear", "name": "linear"}), "model").__name__ == "Linear"
