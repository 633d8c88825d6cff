"""What the documents promise: the commands, flags, names and code they show are those of the package."""

import ast
import pathlib
import pkgutil
import re
import shlex
import sys
from unittest import mock

import aigan_tf  # isort: skip (before TensorFlow, which reads its settings on import)
import commands
import nbformat
import numpy as np
import pytest

from aigan_tf import cli
from aigan_tf.config import PRESETS, attack_kind, is_built_in, refuse_idle_settings
from aigan_tf.evaluation.caveats import comparison_warnings, defence_warnings, gradient_masking_warnings
from aigan_tf.evaluation.evaluation_set import EvaluationSet

ROOT = pathlib.Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"(?<![\w./])(?:aigan_tf|keras)(?:\.[A-Za-z_]\w*)+")
PATH = re.compile(r"(?<![\w./-])(?:aigan_tf|benchmarks|docs|notebooks|pretrained|serving|tests|tools)/[\w./*-]+")


def files(pattern):
    """The project's own files, without those of runs and environments inside the checkout."""
    for path in sorted(ROOT.rglob(pattern)):
        folders = path.relative_to(ROOT).parts[:-1]
        if not any(folder in ("runs", "build", "site-packages") or folder.startswith(".") for folder in folders):
            yield path


def text_cells(notebook):
    cells = nbformat.read(notebook, nbformat.NO_CONVERT).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def usage(script):
    """The docstring of a script as a page: a line from `python` on is a block."""
    docstring = ast.get_docstring(ast.parse(script.read_text())) or ""
    return re.sub(r"^.*?\b(python [^`\n]+)$", r"```\n\1\n```", docstring, flags=re.MULTILINE)


def each(pages):
    return pytest.mark.parametrize("page", pages, ids=lambda path: str(path.relative_to(ROOT)))


PAGES = {path: path.read_text() for path in files("*.md")} | {path: text_cells(path) for path in files("*.ipynb")}


def code(page):
    """What a page shows as code: the lines of its blocks, and each piece inside a sentence."""
    lines = [line for _, block in BLOCK.findall(page.replace("\\\n", " ")) for line in block.splitlines()]
    return lines + [" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", BLOCK.sub("", page))]


def shown_commands(page):
    """The words of each command that runs Python, from the script's name on; `python` may be left out before flags."""
    parts = [part for line in code(page) for part in line.split(" && ")]
    found = [re.search(r"\bpython3? (?:-m )?(.+)|^(\S+\.py --.+)", part) for part in parts]
    return [shlex.split(shown[1] or shown[2], comments=True) for shown in found if shown]


COMMANDS = {path: shown_commands(page) for path, page in PAGES.items()}
COMMANDS |= {path: shown_commands(usage(path)) for path in files("*.py")}


@each(PAGES)
def test_paths_and_names_of_the_project_exist(page):
    for line in code(PAGES[page]):
        for path in PATH.findall(line):
            assert list(ROOT.glob(path)) or path.endswith("/mine"), path  # the user's own
        for name in NAME.findall(line):
            pkgutil.resolve_name(name)
        if re.fullmatch(r"\w+\.py", line) and line != "layers.py":  # the user's own
            assert (ROOT / line).exists() or list((ROOT / "aigan_tf").rglob(line)), line


@pytest.fixture
def parsed_only(monkeypatch, tmp_path):
    """The commands end with status 0 once their arguments are checked."""

    def train(config, *_, **__):
        assert config.dataset in PRESETS or "/" in config.dataset
        assert is_built_in(config.classifier) or "/" in config.classifier
        refuse_idle_settings(config)

    def evaluate(workdir, data_dir, attacks, *_, **__):
        assert all(map(attack_kind, attacks))

    monkeypatch.chdir(tmp_path)
    for name in ("check_new_run", "check_finished_run", "check_advgan_run", "check_evaluation"):  # there are no files
        monkeypatch.setattr(f"aigan_tf.checks.{name}", lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "aigan_tf.demo", mock.Mock())
    for name, function in {
        "training.run.train_and_export": train, "training.estimate.check_run": train,
        "training.estimate.config_within": lambda minutes, config, *_: config, "evaluation.compare.evaluate_workdir": evaluate,
        "evaluation.defences.compare_defences": evaluate, "training.advgan.train_advgan": lambda *_: None,
        "training.run.export_run": lambda *_: None, "serving.client.attack_file": lambda *_: None,
        "attack_plan.make_plan": mock.Mock(), "photo_attack.attack_pictures": lambda *_: None,
    }.items():  # fmt: skip
        monkeypatch.setattr(f"aigan_tf.{name}", function)


def status_of(name, *arguments):
    """The exit status of a command. Of other scripts only the flags' names are checked."""
    if name == "aigan_tf" and len(arguments) == 1:  # named in a sentence
        return 0 if set(arguments[0].split("|")) <= cli.COMMANDS.keys() else 2
    if name == "aigan_tf":
        name, *arguments = arguments
    if command := {"train.py": cli.train, "evaluate.py": cli.evaluate, **cli.COMMANDS}.get(name):
        return commands.run_in_process(command, *arguments)
    if not name.endswith(".py"):
        return 0 if pkgutil.resolve_name(name) else 2
    flags = [argument[2:].partition("=")[0] for argument in arguments if argument.startswith("--")]
    source = (ROOT / name).read_text()
    return 0 if all(re.search(rf'"(--)?{flag}"', source) for flag in flags) else 2


@each([path for path in COMMANDS if COMMANDS[path]])
def test_commands_are_accepted(page, parsed_only):
    for command in COMMANDS[page]:
        arguments = [argument for argument in command if argument != "--help"]
        is_pattern = any(argument.isupper() for argument in arguments)  # advgan WORKDIR CLASS...
        assert is_pattern or status_of(*arguments) == 0, shlex.join(command)


@each([path for path in PAGES if path.name != "CHANGELOG.md"])  # names old flags
def test_flags_in_sentences_exist_and_take_their_values(page, parsed_only, monkeypatch, capsys):
    monkeypatch.setattr(
        "aigan_tf.training.run.train_and_export", lambda *_, **__: None
    )  # alone, some flags have no effect
    helps = {}
    for command in cli.COMMANDS.values():
        commands.run_in_process(command, "--help")
        helps[command] = capsys.readouterr().out
    for shown in filter(None, (re.fullmatch(r"--(?!help)(\w+)(?:=(\S+))?", piece) for piece in code(PAGES[page]))):
        name, values = shown.groups(default="")
        known = [command for command in helps if re.search(rf"^  --(\[no\])?{name}\b", helps[command], re.MULTILINE)]
        assert known, shown[0]
        for value in values.split("|") if values else ():
            tried = [(command, given) for command in known for given in ((), ("runs/digits",))]
            statuses = (commands.run_in_process(command, *given, f"--{name}={value}") for command, given in tried)
            assert 0 in statuses, shown[0]


# The wrappers of classifiers.md, which are of the reader's own models, are run in classifiers/test_calling.py, the cards'
# code in test_pretrained.py, the adapters in adapters/test_adapters.py, a Keras file in serving/test_formats.py.
RUN_ELSEWHERE = {
    ROOT / "docs" / "classifiers.md",
    ROOT / "docs" / "serving.md",
    ROOT / "docs" / "guide" / "other_libraries.md",
    *ROOT.glob("pretrained/*/README.md"),
}


@each([path for path, page in PAGES.items() if "\n```python\n" in page and path not in RUN_ELSEWHERE])
def test_python_blocks_run(page, digits, digit_classifier, monkeypatch):
    # An untrained generator's answers have the same form.
    monkeypatch.setattr("aigan_tf.training.generator.fit", lambda *_: False)
    images, labels = digits.test.as_float(), digits.test.labels
    given = {"classifier": digit_classifier, "images": images, "labels": labels, "target_classes": (labels + 1) % 10}
    for language, block in BLOCK.findall(PAGES[page]):
        if language == "python":
            exec(compile(block, str(page), "exec"), given)
            assert given["adversarial_images"].shape == images.shape


def test_each_warning_of_an_evaluation_is_explained_as_printed():
    def row(success, before):
        return {"success_rate": success, "success_rate_float": before, "success_by_class": {"a": success}}

    rows = {"fgsm": row(0.9, 0.9), "pgd": row(0.8, 0.8), "aigan": row(0.9, 0.9), "cw": row(0.6, 0.7)}
    images, labels = np.zeros((3, 8, 8, 1), np.float32), np.zeros(3, np.int32)
    flat = EvaluationSet(lambda images: 0.0 * images[:, 0, 0] + [1.0, 0.0], images, labels, ["a", "b"])
    found = comparison_warnings(rows) + gradient_masking_warnings(flat, targeted=True)
    found += defence_warnings(0.5, 0.1) + defence_warnings(0.1, 0.5)
    assert len(found) == 7
    page = PAGES[ROOT / "docs" / "caveats.md"]
    for warning in found:
        assert re.sub(r"\d+(\.\d+)?", "N", warning).replace("to N bits", "to 8 bits") in page, warning


def test_release_has_one_version():
    dated = re.search(r"^## \[(.+)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text()
    assert dated[1] == aigan_tf.__version__
    assert f"\nversion: {dated[1]}\ndate-released: {dated[2]}\n" in citation
