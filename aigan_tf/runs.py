"""A table of the runs in a folder, read from their files without TensorFlow."""

import json
import os
import pathlib
from collections.abc import Sequence

from aigan_tf.config import is_built_in
from aigan_tf.errors import InputError, printable, shown_value
from aigan_tf.evaluation.tables import aligned, display_width
from aigan_tf.files import read_bytes, read_csv, user_path, visible_folders
from aigan_tf.workdir import Workdir, config_of

_HEADER = ("run", "data set", "classifier", "epsilon", "success", "state")
_NARROWEST = 8  # places that a name is cut to


def table_of_runs(folder: str | os.PathLike, width: int) -> str:
    """Returns a row per run in a folder (or of the run that it is), the newest last, and a header.

    Args:
        folder: holds the folders of runs; others in it are left out.
        width: of a line, at most; long names are cut.

    Raises:
        InputError: it is not a folder, cannot be read, or holds no runs.
    """
    path = user_path(folder)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder", "a folder of runs", "train first, or name another")
    candidates = [path] if (path / "config.json").exists() else visible_folders(path)
    found = [run for run in map(Workdir, candidates) if os.path.lexists(run.config)]
    if not found:
        raise InputError(f"{path} holds no runs", "folders with a config.json", "train first, or name another")
    rows = [_HEADER, *map(_row, sorted(found, key=_last_change))]
    return aligned(_fitted([[printable(cell) for cell in row] for row in rows], width))


def _last_change(run):
    """When the run wrote something last, for the order; then its name."""
    written = [file.stat().st_mtime for file in (run.config, run.metrics, run.report) if file.exists()]
    return max(written, default=0.0), run.path.name


def _row(run) -> tuple[str, ...]:
    name = run.path.resolve().name if run.path.name in ("", "..") else run.path.name
    try:
        config = config_of(run)
    except InputError as error:
        other = error.setting == "format"
        state = f"other format ({shown_value(error.received)})" if other else "config.json is damaged"
        return name, "-", "-", "-", _success(run), state
    dataset, classifier = pathlib.PurePath(config.dataset).name, pathlib.PurePath(config.classifier).stem
    return name, dataset, classifier, shown_value(config.epsilon), _success(run), _state(run, config)


def _success(run):
    try:
        return f"{float(json.loads(read_bytes(run.report))['success_rate']):.2%}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "-"


def _state(run, config):
    if run.is_trained:
        return "finished" if run.report.exists() else "trained, not measured"
    try:
        done = len(read_csv(run.metrics))
    except InputError:
        return "metrics.csv is damaged"
    doing = "training" if run.is_locked() else "stopped"
    if done == 0 and is_built_in(config.classifier) and not run.classifier.exists():
        return f"{doing}, at the classifier"
    return f"{doing}, {done} of {config.epochs} epochs"


def _fitted(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Returns the rows with names so short that a line has `width` places; the longest names lose their middle."""
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths[:3]) > _NARROWEST:
        widths[widths.index(max(widths[:3]))] -= 1
    return [list(map(_cut, row, widths)) for row in rows]


def _cut(text, width):
    if display_width(text) <= width:
        return text
    left, right = text[: len(text) // 2], text[len(text) // 2 :]
    while display_width(left + right) >= width:
        left, right = (left[:-1], right) if display_width(left) > display_width(right) else (left, right[1:])
    return f"{left}…{right}"
