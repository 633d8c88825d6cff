"""Who may import whom."""

import ast
import pathlib
import subprocess
import sys

import pytest

import aigan_tf

PACKAGE = pathlib.Path(aigan_tf.__file__).parent

# The rule, and its only copy: a module imports only modules of lower tiers.
TIERS = (
    {"client", "library"},
    {"cli"},
    {"training", "resistance"},
    {"comparison"},
    {"contenders", "classifier_training", "doubts"},
    {"preparation"},
    {"evaluation", "callbacks", "checkpoints", "health", "building", "defences", "distillation"},
    {"page"},
    {"report", "figures", "pictures", "export", "baselines"},
    {"warmup", "request_checks"},
    {"advgan"},
    {"aigan"},
    {"attacks"},
    {"losses", "metrics"},
    {"perturbation"},
    {"replicas"},
)
# The tiers that may also import the modules beside; the method below them is handed what it needs.
OPEN_TIERS = 10
# Beside the tiers: each with all it may import.
BESIDE = {
    "networks": {"normalization"},
    "optimizers": set(),
    "precision": set(),
    "normalization": set(),
    "arrays": {"errors"},
    "splits": {"errors"},
    "data": {"errors", "splits"},
    "config": {"errors"},
    "files": {"errors"},
    "workdir": {"errors", "files"},
    "classifiers": {"errors", "normalization"},
    "batches": {"splits"},
    "adoption": {"errors", "classifiers", "saved_model"},
    "distribution": {"errors"},
    "saved_model": {"errors"},
    "errors": set(),
}


def allowed_imports():
    allowed = {"__init__": set(), **BESIDE}
    for height, tier in enumerate(TIERS):
        below = set().union(*TIERS[height + 1 :])
        for module in tier:
            allowed[module] = below | (set(BESIDE) if height < OPEN_TIERS else set())
    return allowed


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported_modules(source: str) -> set[str]:
    """The modules of this package that a source imports, wherever in it; but not what only a type checker reads."""
    found = set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if is_for_types(node):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["aigan_tf" if node.level else "", node.module]))
            # `from aigan_tf import name`: a module; `from aigan_tf.module import name`: the module is the base.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "aigan_tf" else [base]
        else:
            continue
        found |= {
            name.split(".")[1] if "." in name else "__init__" for name in names if name.split(".")[0] == "aigan_tf"
        }
    return found


IMPORTS = {path.stem: imported_modules(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def test_reading_imports():
    source = """
import numpy, aigan_tf.data
from aigan_tf import losses, metrics as m
from . import attacks
from .export import export_generator
def later():
    from aigan_tf.report import success_table
if TYPE_CHECKING:
    from aigan_tf.page import page
else:
    from aigan_tf import figures
"""
    assert imported_modules(source) == {"data", "losses", "metrics", "attacks", "export", "report", "figures"}


def test_every_module_has_its_place():
    placed = [module for tier in TIERS for module in tier] + list(BESIDE)

    assert sorted(placed) == sorted(set(IMPORTS) - {"__init__"}), (
        "put a new module into the table, or take a gone one out"
    )


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_imports_only_what_its_tier_may(module):
    assert IMPORTS[module] <= allowed_imports().get(module, set())


def test_no_cycles():
    left = dict(IMPORTS)
    while left:
        free = {module for module, imports in left.items() if not imports & left.keys()}
        assert free, f"these import each other in a circle: {sorted(left)}"
        left = {module: imports for module, imports in left.items() if module not in free}


def test_type_checkers_are_told_where_the_public_names_are():
    (block,) = filter(is_for_types, ast.parse((PACKAGE / "__init__.py").read_text()).body)
    told = {alias.name: node.module for node in block.body for alias in node.names}
    assert told == {name: f"aigan_tf.{module}" for name, module in aigan_tf._MODULE_OF.items()}
    assert sorted(told) == sorted(aigan_tf.__all__)


def test_a_mistyped_flag_does_not_wait_for_tensorflow():
    code = "import sys, aigan_tf.config, aigan_tf.cli; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )

    assert result.stdout.strip() == "[]"
