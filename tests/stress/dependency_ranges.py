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
import re
import subprocess
import sys
import tempfile
import time
import venv
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).parents[2]
REQUIREMENTS = [ROOT / name for name in ("requirements.txt", "requirements-dev.txt")]
RESOLUTIONS = {"lowest": "lowest-direct", "highest": "highest"}  # of uv; pip cannot choose the lowest


def named_packages() -> list[str]:
    """Returns the names of the packages in the requirements files."""
    return re.findall(r"^[\w-]+(?=[<>=])", "\n".join(path.read_text() for path in REQUIREMENTS), re.MULTILINE)


def normalized(name: str) -> str:
    """Returns a package's name as pip compares it: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def make_environment(folder: pathlib.Path) -> pathlib.Path:
    """Makes a virtual environment and returns its Python."""
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def run_tests(python: pathlib.Path, results: pathlib.Path) -> dict:
    """Runs the README's test command and returns its counts."""
    began = time.perf_counter()
    run = subprocess.run([python, "-m", "pytest", f"--junitxml={results}"], cwd=ROOT)
    cases = list(ElementTree.parse(results).iter("testcase")) if results.exists() else []  # pytest may not have started
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    return {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": [f"{case.get('classname')}::{case.get('name')}" for case in failed],
        "skipped": len(skipped), "exit_status": run.returncode, "seconds": round(time.perf_counter() - began),
    }  # fmt: skip


def try_versions(uv: pathlib.Path, resolution: str, folder: pathlib.Path) -> dict:
    """Installs one end of the ranges into a fresh environment; returns its versions and the result of the tests."""
    python = make_environment(folder)
    files = [argument for path in REQUIREMENTS for argument in ("-r", path)]
    subprocess.run([uv, "pip", "install", "--python", python, "--resolution", resolution, *files], check=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    check = subprocess.run([*pip, "check"], capture_output=True, text=True)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, text=True)
    versions = {normalized(package["name"]): package["version"] for package in json.loads(listed.stdout)}
    named = {name: versions.pop(normalized(name)) for name in named_packages()}
    tests = run_tests(python, folder / "results.xml")
    return {"tests": tests, "pip_check": check.stdout.strip(), "named": named, "their_own_needs": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=RESOLUTIONS, help="one end of the ranges")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    ends = {}
    with tempfile.TemporaryDirectory() as temporary:
        python = make_environment(pathlib.Path(temporary, "uv"))
        subprocess.run([python, "-m", "pip", "install", "--quiet", "uv"], check=True)
        for end in [arguments.only] if arguments.only else RESOLUTIONS:
            print(f"== The {end} versions", flush=True)
            ends[end] = try_versions(python.parent / "uv", RESOLUTIONS[end], pathlib.Path(temporary, end))
    text = json.dumps({"python": platform.python_version(), **ends}, indent=2) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text)
    if any(end["tests"]["exit_status"] or end["pip_check"] != "No broken requirements found." for end in ends.values()):
        sys.exit("not every version in the ranges works: see above")


if __name__ == "__main__":
    main()
