"""Runs the tests on the lowest and on the highest versions that the requirements files allow.

    python tests/stress/dependency_ranges.py --output=docs/results/dependencies.json

Each end of the ranges is installed into a fresh environment of this Python, followed by `pip check` and the README's test
command. Only packages that the files name are lowered; what those need is as new as they allow, as in a new installation.
Exits with 1 if a test fails or the packages do not fit together.
"""

import argparse
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).parents[2]
FILES = ["-r", "requirements.txt", "-r", "requirements-dev.txt"]
RESOLUTIONS = {"lowest": "lowest-direct", "highest": "highest"}  # of uv; pip cannot choose the lowest


def run(*command) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def try_versions(resolution: str, folder: pathlib.Path) -> dict:
    """Installs one end of the ranges into a fresh environment; returns its versions and the result of the tests."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "uv").check_returncode()
    run(python, "-m", "uv", "pip", "install", "--resolution", resolution, "--python", python, *FILES).check_returncode()
    check, tests = run(*pip, "check"), run(python, "-m", "pytest")
    print(tests.stdout, flush=True)
    return {
        "tests": tests.stdout.splitlines()[-1], "pip_check": check.stdout.strip(),
        "passed": tests.returncode == check.returncode == 0,
        "versions": {each["name"]: each["version"] for each in json.loads(run(*pip, "list", "--format=json").stdout)},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=pathlib.Path, required=True)
    output = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        ends = {end: try_versions(name, pathlib.Path(folder, end)) for end, name in RESOLUTIONS.items()}
    output.write_text(json.dumps({"python": platform.python_version(), **ends}, indent=2) + "\n")
    if not all(end["passed"] for end in ends.values()):
        sys.exit("not every version in the ranges works: see above")


if __name__ == "__main__":
    main()
