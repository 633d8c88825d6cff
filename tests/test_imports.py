"""Who may import whom: a package imports only rows below its own, and method/ only engine/."""

import ast
import pathlib

import pytest

import aigan_tf

PACKAGE = pathlib.Path(aigan_tf.__file__).parent
TIERS = [
    {"__main__"},
    {"cli"},
    {"demo"},
    {"adapters", "photo_attack"},
    {"api"},
    {"api_inputs", "runs", "training"},
    {"evaluation"},
    {"checks", "trained_generator"},
    {"classifiers"},
    {"attack_plan", "build", "serving"},
    {"method", "data"},
    {"engine", "exported", "workdir"},
    {"config", "files", "flags", "terminal"},
    {"errors", "provenance"},
]
TIER = {name: height for height, names in enumerate(TIERS) for name in names}
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]


def imported(path: pathlib.Path) -> set[str]:
    """The modules and folders below aigan_tf/ that a module imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), "imports are absolute"
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    return {name.split(".")[1] for name in names if name.startswith("aigan_tf.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_rows_below(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported(path) - {own}:
        assert TIER[other] > TIER[own], other
        assert own != "method" or other == "engine", other
