"""Writes reports: each evaluation into a new folder, whole or not at all. No report is replaced."""

import contextlib
import datetime
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence

from aigan_tf.errors import InputError, say
from aigan_tf.files import (
    atomic_file,
    atomic_folder,
    csv_bytes,
    json_bytes,
    locked,
    unfinished_name,
    user_path,
    with_numbers,
    write_bytes,
    writing,
)

LATEST = "latest"
_TIME = "%Y-%m-%dT%H-%M-%S"


def check_place(parent: pathlib.Path, output: str | None, images: str | None = None) -> None:
    """Checks that a report can be written, since measuring may take hours.

    Args:
        parent: the folder in which `write_report` makes the report's own.
        output: the user's choice of that folder; None for one named by the time.
        images: another folder, which is written before the report; None for none.

    Raises:
        InputError: `output` exists or would hold `images`, or the folder cannot be made there.
    """
    path = user_path(output) if output else parent
    if output and images and user_path(images).absolute().is_relative_to(path.absolute()):
        raise InputError(images, "a folder that is not in `output`", "choose another", setting="save_images")
    existing = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if output and existing == path:
        problem = "exists, and a report is never replaced"
    elif not existing.is_dir():
        problem = f"cannot be a folder: {existing} is a file"
    elif not os.access(existing, os.W_OK | os.X_OK):
        problem = f"cannot be written: {existing} is read-only"
    else:
        return
    raise InputError(path, "a new folder in a writable one", "choose a new folder", setting="output", problem=problem)


def report_parts(name: str, result: Mapping, rows: Sequence[Mapping], html: str) -> dict[str, bytes]:
    """Returns the files of a report by name: the result as JSON, its rows as CSV, and the page."""
    return {f"{name}.json": json_bytes(result), f"{name}.csv": csv_bytes(rows), f"{name}.html": html.encode()}


def write_report(
    parent: pathlib.Path, output: str | None, parts: Mapping[str, bytes], summary: str = ""
) -> pathlib.Path:
    """Writes the files of a report into a new folder, all or none, and only then prints its summary and where its page is.

    Without `output` the folder is named by the time, and the text file `latest` beside it names it. Unfinished reports of
    killed processes are removed.

    Args:
        parent, output: as in `check_place`.
        parts: content by name; a name may lie in a folder. The first name that ends in .html is the page's.
        summary: what the report says, for the terminal.

    Returns:
        The new folder.

    Raises:
        InputError: it cannot be written.
    """
    if output:
        path = user_path(output)
        _write_folder(path, parts)
    else:
        # One at a time: two in a second get two names, and what is unfinished here belongs to a dead process.
        with writing(parent, parent), locked(parent / ".lock", wait=True):
            _remove_unfinished(parent)
            paths = map(parent.joinpath, with_numbers(datetime.datetime.now().strftime(_TIME)))
            path = next(path for path in paths if not os.path.lexists(path))
            _write_folder(path, parts)
            write_bytes(parent / LATEST, f"{path.name}\n".encode())
    if summary:
        say(summary)
    say(f"Report: {path / next(name for name in parts if name.endswith('.html'))}")
    return path


def latest_report(parent: pathlib.Path, name: str = "report") -> pathlib.Path | None:
    """Returns the newest report's JSON file, or that of an earlier version, which wrote it into `parent` itself."""
    with contextlib.suppress(OSError, ValueError):
        newest = parent / (parent / LATEST).read_text().strip() / f"{name}.json"
        if newest.is_file():
            return newest
    earlier = parent / f"{name}.json"
    return earlier if earlier.is_file() else None


def write_measurement(report: pathlib.Path, result: Mapping, html: str) -> None:
    """Writes train.py's report.json, and the page of the same measurement beside it; both may be replaced.

    Raises:
        InputError: they cannot be written.
    """
    page = report.with_suffix(".html")
    with atomic_file(page) as new_page, atomic_file(report) as new_report:
        new_page.write_bytes(html.encode())
        new_report.write_bytes(json_bytes(result))
        page.unlink(missing_ok=True)  # a kill between the two names leaves no page rather than another measurement's


def _write_folder(path, parts):
    with atomic_folder(path) as folder:
        for name, data in parts.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)


def _remove_unfinished(parent):
    """Removes unfinished folders of reports that are named by the time, and unfinished names of the latest."""
    for entry in parent.glob(".*"):
        if re.fullmatch(rf"\d{{4}}-\d\d-\d\dT.+|{LATEST}", unfinished_name(entry) or ""):
            shutil.rmtree(entry, ignore_errors=True)
