"""What the documents promise: links lead somewhere, and the commands and names they show exist."""

import importlib
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_to_one(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def flags_of(script):
    """The names that `--help` lists."""
    run = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT)
    return {name.removeprefix("[no]") for name in re.findall(r"^  --(\S+):", run.stdout, re.MULTILINE)}


@pytest.mark.parametrize("script", ["train.py", "evaluate.py"])
def test_every_flag_of_a_shown_command_exists(script):
    known = flags_of(script) | {"help"}
    assert "workdir" in known
    shown = []
    for path in DOCUMENTS:
        text = path.read_text().replace("\\\n", " ")
        shown += re.findall(rf"^python {re.escape(script)}[^\n#|]*", text, re.MULTILINE)
        shown += re.findall(rf"`python {re.escape(script)}[^`|]*`", text)  # in a sentence it may go on in the next line
    assert len(shown) > 3
    for command in shown:
        for name in re.findall(r"--(\w+)", command):
            assert name in known or name.removeprefix("no") in known, command


def test_every_function_the_method_names_exists():
    found = re.findall(r"`(\w+)\.(\w+(?:\.\w+)?)`", (ROOT / "docs" / "method.md").read_text())
    assert len(found) > 10
    for module, name in found:
        value = importlib.import_module(f"aigan_tf.{module}")
        for part in name.split("."):
            value = getattr(value, part)
