"""Requirements of the lowest versions that pyproject.toml allows: python .ci/oldest.py [TORCH] > FILE

A lowest version that has no wheel for this Python is left to pip, and PyTorch is what constraints.txt says unless a
version is given: PyPI's Linux wheels of the older ones are CUDA builds of several GB. Both are said on stderr.
"""

import re
import subprocess
import sys
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent
LOWEST = re.compile(r"(?P<name>[\w-]+)(\[.*\])?>=(?P<version>[\d.]+)")


def has_wheel(requirement: str) -> bool:
    """Whether pip finds a wheel for this Python."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed"]
    return not subprocess.run([*command, "--only-binary=:all:", requirement], capture_output=True).returncode


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    if tested is None:
        sys.exit("constraints.txt names no version of torch.")
    torch = f"torch=={sys.argv[1]}" if len(sys.argv) > 1 else tested[0]
    print(torch)
    print(f"{torch}; the lowest that is allowed: {project['dependencies'][0]}", file=sys.stderr)
    for line in project["optional-dependencies"]["suite"]:
        lowest = LOWEST.match(line)
        if lowest is None:
            sys.exit(f"'{line}' in pyproject.toml has no lower bound.")
        requirement = f"{lowest['name']}=={lowest['version']}"
        if has_wheel(requirement):
            print(requirement)
        else:
            print(f"{requirement}: no wheel for this Python, so pip chooses a newer one", file=sys.stderr)


if __name__ == "__main__":
    main()
