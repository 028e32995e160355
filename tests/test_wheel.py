"""What is installed: configurations and experiments come along."""

import subprocess
import sys
import zipfile
from pathlib import Path

import dfa_bench

SOURCE = Path(dfa_bench.__file__).parent.parent


def test_the_wheel_carries_every_config_and_experiment(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    shipped = [
        path.relative_to(SOURCE) for folder in ("configs", "experiments") for path in (SOURCE / folder).rglob("*.yaml")
    ]
    assert len(shipped) > 50
    assert {f"dfa_bench/_{path.as_posix()}" for path in shipped} <= names
    assert "dfa_bench/py.typed" in names
    page = "dfa_bench/reporting/page"
    assert {f"{page}/report.html.jinja", f"{page}/report.css"} <= names
    assert not any(name.startswith(("tests", "runs", "results")) for name in names)
