"""Known vulnerabilities in the versions of constraints.txt, by pip-audit; says so where its service cannot be asked."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
SECONDS = 10  # of all questions: a check must not wait for a network that is not there
COMMAND = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
COMMAND += ["--progress-spinner=off", "--timeout=3", "--format=json"]


def audit() -> list[dict[str, Any]]:
    """What is known of each package; raises LookupError if nothing could be asked."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=SECONDS)
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        raise LookupError(f"no answer within {SECONDS} s") from None
    except ValueError:
        raise LookupError(done.stderr.strip().splitlines()[-1]) from None
    if not any("vulns" in package for package in packages):
        raise LookupError(packages[0]["skip_reason"])
    return packages


def main() -> None:
    try:
        packages = audit()
    except LookupError as reason:
        print(f"not audited: {reason}")
        return
    found = [(package, each) for package in packages for each in package.get("vulns", ())]
    for package, each in found:
        mended = ", ".join(each["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {each['id']}, mended in {mended}")
    print(f"Audited {sum('vulns' in package for package in packages)} of {len(packages)} packages.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
