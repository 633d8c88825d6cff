"""What the documents promise: links lead somewhere, and the commands, flags and names they show exist."""

import argparse
import ast
import functools
import importlib.util
import inspect
import os
import pathlib
import pkgutil
import re
import runpy
import shlex
import sys
from unittest import mock

import aigan_tf  # isort: skip (before TensorFlow, which reads its settings on import)
import commands
import nbformat
import pytest
from absl import app, flags

from aigan_tf import cli, preparation
from aigan_tf.config import PRESETS, Config
from aigan_tf.engine import distribution
from aigan_tf.serving import client
from aigan_tf.training import run as training

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"(?<![\w./])(?:aigan_tf|keras)(?:\.[A-Za-z_]\w*)+")
PATH = re.compile(r"(?<![\w./-])(?:aigan_tf|benchmarks|docs|notebooks|pretrained|serving|tests|tools)/[\w./*-]+")
PROGRAMS = {"train.py": cli.train, "evaluate.py": cli.evaluate, "aigan_tf.serving.client": client.main}


def files(pattern):
    """The project's own files, without those of runs and of environments that lie in the checkout."""
    for path in sorted(ROOT.rglob(pattern)):
        folders = path.relative_to(ROOT).parts[:-1]
        if not any(folder in ("runs", "build", "site-packages") or folder.startswith(".") for folder in folders):
            yield path


def explanations(notebook):
    cells = nbformat.read(notebook, nbformat.NO_CONVERT).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def usage(script):
    """The docstring of a script as a page: what follows `python` in a line is a block."""
    docstring = ast.get_docstring(ast.parse(script.read_text())) or ""
    return re.sub(r"^.*?\b(python [^`\n]+)$", r"```\n\1\n```", docstring, flags=re.MULTILINE)


PAGES = {path: path.read_text() for path in files("*.md")} | {path: explanations(path) for path in files("*.ipynb")}
USAGES = {path: usage(path) for path in files("*.py")}


def name_of(path):
    return str(path.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def links(page):
    return re.findall(r"\]\(([^)]+)\)", re.sub(r"`[^`]*`", "", BLOCK.sub("", page)))


def anchors(page):
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page), re.MULTILINE)
    plain = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    earlier = [plain[:number].count(anchor) for number, anchor in enumerate(plain)]
    return [f"{anchor}-{count}" if count else anchor for anchor, count in zip(plain, earlier, strict=True)]


def code(page):
    """What a page shows as code: the lines of its blocks, and each piece in its sentences."""
    lines = [line for _, block in BLOCK.findall(page.replace("\\\n", " ")) for line in block.splitlines()]
    return lines + [" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", BLOCK.sub("", page))]


def shown_commands(page):
    """The words of each command that runs Python, from the script's name on; before flags `python` may be left out."""
    parts = [part for line in code(page) for part in line.split(" && ")]
    found = [re.search(r"\bpython3? (?:-m )?(.+)|^(\S+\.py --.+)", part) for part in parts]
    return [shlex.split(shown[1] or shown[2], comments=True) for shown in found if shown]


COMMANDS = {path: shown_commands(page) for path, page in (PAGES | USAGES).items()}


def test_reading_a_page():
    page = """# The `first`, at 8/255
[a](b.md#c), `[no](link)`, ![d](e.png) `python -m a.b
--c=d`, `train.py --e`, `train.py`
## Twice
```sh
# no heading
pip install f && python g.py --h="i j" \\
  --k  # why
```
## Twice
"""
    assert links(page) == ["b.md#c", "e.png"]
    assert anchors(page) == ["the-first-at-8255", "twice", "twice-1"]
    assert shown_commands(page) == [["g.py", "--h=i j", "--k"], ["a.b", "--c=d"], ["train.py", "--e"]]


@each_page
def test_every_link_leads_somewhere(page):
    for link in links(PAGES[page]):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(PAGES.get(target, "")), link


@each_page
def test_every_path_of_the_project_exists(page):
    for line in code(PAGES[page]):
        for path in PATH.findall(line):
            assert list(ROOT.glob(path)), path
        if re.fullmatch(r"\w+\.py", line):
            assert (ROOT / line).exists() or (ROOT / "aigan_tf" / line).exists(), line


def stop_before_reading(config, data_dir=None):
    """In place of `load_dataset`: ends a run, with status 0 if data set and classifier are paths or known names."""
    known_dataset = config.dataset in PRESETS or "/" in config.dataset
    known_classifier = config.is_built_in(config.classifier) or "/" in config.classifier
    sys.exit(0 if known_dataset and known_classifier else 2)


@pytest.fixture
def stopped(monkeypatch, tmp_path):
    """Ends train.py, evaluate.py and the client, with status 0, where they would read what a page only names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "Devices", lambda strategy: distribution.Devices("none"))
    monkeypatch.setattr(preparation, "config_of", lambda folder, *given: Config())
    monkeypatch.setattr(preparation, "load_dataset", stop_before_reading)
    monkeypatch.setattr(client, "user_path", lambda path: pathlib.Path(os.devnull))
    monkeypatch.setattr(client, "attack_image", mock.Mock(side_effect=SystemExit(0)))


def status_of(name, *arguments):
    """The exit status of a command, which ends once its arguments are checked."""
    if name in PROGRAMS:
        return commands.run_in_process(PROGRAMS[name], *arguments)
    if not name.endswith(".py"):
        return 0 if importlib.util.find_spec(name) else 1
    if re.search(r"\.parse_args\(|\bapp\.run\(", (ROOT / name).read_text()):
        return commands.run_in_process(functools.partial(parse_in_script, ROOT / name, arguments))
    return 2 if any(argument.startswith("-") for argument in arguments) else 0  # it has no parser


def parse_in_script(path, arguments):
    """Runs a script until its own parser, argparse's or absl's, has taken the arguments."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser):
        parse_args(parser, arguments)
        sys.exit(0)

    def parse(main):
        flags.FLAGS([str(path), *arguments])

    # Flags of this script alone, not of all that run in this process.
    define = {
        name: functools.partial(getattr(flags, name), flag_values=flags.FLAGS)
        for name in ("DEFINE_bool", "DEFINE_integer", "DEFINE_float", "DEFINE_string", "DEFINE_list", "DEFINE_enum")
    }
    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop),
        mock.patch.object(app, "run", parse),
        mock.patch.object(sys, "path", [str(path.parent), *sys.path]),
        mock.patch.multiple(flags, **define),
    ):
        runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("page", [path for path in COMMANDS if COMMANDS[path]], ids=name_of)
def test_every_command_is_one_that_its_script_takes(page, stopped):
    for command in COMMANDS[page]:
        arguments = [argument for argument in command if argument != "--help"]
        assert status_of(*arguments) == 0, shlex.join(command)


def flags_of(program):
    """The names of a program's flags."""
    names = []

    def remember(main, flags_parser, arguments):
        names.extend(flags.FLAGS)

    with mock.patch.object(commands, "_run", remember):
        commands.run_in_process(PROGRAMS[program])
    return names


@each_page
def test_every_flag_in_a_sentence_exists_and_takes_its_value(page, stopped, monkeypatch):
    monkeypatch.setattr(preparation, "refuse_idle_settings", stop_before_reading)  # alone some have no effect
    for piece in code(PAGES[page]):
        if shown := re.fullmatch(r"--(\w+)(?:=(\S+))?", piece):
            name, values = shown.groups(default="")
            programs = [program for program in PROGRAMS if name in flags_of(program)]
            assert programs, piece
            for value in values.split("|") if values else ():
                assert any(status_of(program, f"--{name}={value}") == 0 for program in programs), piece


@pytest.mark.parametrize("page", [path for path, page in PAGES.items() if "\n```python\n" in page], ids=name_of)
def test_python_blocks_run(page, digits, digit_classifier, monkeypatch):
    monkeypatch.setattr(training, "fit", lambda *_: False)  # an untrained generator answers in the same form
    images, labels = digits.test.as_float(), digits.test.labels
    given = {"classifier": digit_classifier, "images": images, "labels": labels, "target_classes": (labels + 1) % 10}
    if page.suffix == ".ipynb":  # its cells have imported the package
        own = {"model": digit_classifier, "images": images, "labels": labels, "names": ["cat", *"123456789"]}
        given = {"aigan_tf": aigan_tf} | {f"my_{name}": value for name, value in own.items()}
    for language, block in BLOCK.findall(PAGES[page]):
        if language == "python":
            exec(compile(block, str(page), "exec"), given)
            assert given["adversarial_images"].shape == images.shape


@each_page
def test_every_name_of_the_package_exists_and_takes_its_arguments(page):
    for line in code(PAGES[page]):
        for name in NAME.findall(line):
            pkgutil.resolve_name(name)
        try:
            nodes = list(ast.walk(ast.parse(line.removeprefix("@"))))
        except SyntaxError:
            continue
        for call in nodes:
            if isinstance(call, ast.Call) and NAME.fullmatch(function := ast.unparse(call.func)):
                keywords = {keyword.arg: keyword.value for keyword in call.keywords}
                inspect.signature(pkgutil.resolve_name(function)).bind(*call.args, **keywords)


def test_every_function_the_method_names_exists():
    found = re.findall(r"`(\w+)\.(\w+(?:\.\w+)?)`", (ROOT / "docs" / "method.md").read_text())
    assert len(found) > 10
    for module, name in found:
        pkgutil.resolve_name(f"aigan_tf.{module}:{name}")
