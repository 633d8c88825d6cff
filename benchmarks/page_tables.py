"""Markdown tables, and putting one into a page between its two markers."""

import pathlib
import sys
from collections.abc import Iterable, Sequence

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from aigan_tf.files import write_bytes  # noqa: E402 (the checkout need not be installed)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table with a header, ending in a new line."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, ["---"] * len(columns), *rows))


def into_page(page: str, begin: str, end: str, text: str) -> None:
    """Replaces what stands between the lines `begin` and `end` of a page, a path within the checkout."""
    path = ROOT / page
    before, rest = path.read_text().split(begin)
    write_bytes(path, f"{before}{begin}\n{text}{end}{rest.split(end)[1]}".encode())


def attackers(rows: dict) -> str:
    """Returns the table of attacker_speed.py."""
    cells = [
        (name, f"{row['milliseconds_per_image']:.2f}", f"{row['success_rate']:.1%}", f"{row['peak_mib']:.0f}")
        for name, row in rows.items()
    ]
    return table(("attacker", "ms an image", "targeted success", "peak MiB"), cells)


def attacks(rows: dict) -> str:
    """Returns the table of generation_speed.py."""
    cells = [
        (name, str(row["batch_size"]), f"{row['milliseconds_per_image']:.3f}", f"{1000 / row['milliseconds_per_image']:.0f}",
         f"{row['success_rate']:.1%}", f"{row['peak_mib']:.0f}")
        for name, row in rows.items()
    ]  # fmt: skip
    return table(("attack", "batch", "ms an image", "images a second", "targeted success", "peak MiB"), cells)


def choices(rows: dict) -> str:
    """Returns the table of step_choices.py: each line's times, and how many times those of the line it changes."""
    stages = next(iter(rows.values()))["seconds"]

    def cells(row):
        for stage, seconds in row["seconds"].items():
            yield f"{1000 * seconds:.0f}"
            yield f"{seconds / rows[row['beside']]['seconds'][stage]:.2f}"

    head = [column for stage in stages for column in (f"{stage}, ms", "times")]
    return table(("", *head, "of"), ((name, *cells(row), row["beside"]) for name, row in rows.items()))
