"""Markdown tables, and writing one into its place on a page."""

import pathlib
from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table with a header row, ending in a newline."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, ["---"] * len(columns), *rows))


def section(page: str, name: str, script: str = "tools/tables.py") -> str:
    """Returns the text between the two markers of a section, which name the script that writes it."""
    return _split(page, name, script)[1]


def replace_section(path: pathlib.Path, name: str, text: str, script: str = "tools/tables.py") -> None:
    """Replaces the text between the two markers of a section of a page."""
    before, _, after = _split(path.read_text(), name, script)
    begin, end = _markers(name, script)
    path.write_text(f"{before}{begin}{text}{end}{after}")


def _markers(name: str, script: str) -> tuple[str, str]:
    return f"<!-- {name}: written by {script} -->\n", f"<!-- end of {name} -->"


def _split(page: str, name: str, script: str) -> tuple[str, str, str]:
    begin, end = _markers(name, script)
    before, rest = page.split(begin)
    text, after = rest.split(end)
    return before, text, after
