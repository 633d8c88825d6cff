"""Files and folders that appear whole or not at all, and one line of why where they cannot."""

import contextlib
import csv
import errno
import io
import json
import os
import pathlib
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

from aigan_tf.errors import InputError

# What the system answers when a file cannot be written.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (
    errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY,
)  # fmt: skip


def read_bytes(path: pathlib.Path) -> bytes:
    """Returns what a file holds; a pipe, which would be waited for, is refused."""
    refuse_pipe(path)
    return path.read_bytes()


def numbered(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns what in a folder is called by a number, in their order."""
    named = [path for path in folder.glob("*") if re.fullmatch("[0-9]+", path.name)]
    return sorted(named, key=lambda path: int(path.name))


@contextlib.contextmanager
def writing(place: str | os.PathLike, folder: pathlib.Path):
    """Makes a folder, and says in one line where the disk is full or may not be written while the block lasts.

    Args:
        place: what the block writes, for the message.
        folder: where it lies; made if need be.

    Raises:
        InputError: the folder cannot be made, or the system refused to write there; whichever library wrote has wrapped
            that in an error of its own.
    """
    made = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = True
        yield
    except InputError:
        raise
    except Exception as error:
        # By the text: h5py, zipfile and TensorFlow all quote the system, and only some keep its number.
        here = str(folder) in str(error)
        elsewhere = not here and getattr(error, "filename", None) is not None
        no_room = _quoted(_NO_ROOM, error)
        # Many that find no room do not say where; one that is not allowed something may be about anything.
        reason = None if elsewhere else no_room or (_quoted(_NOT_ALLOWED, error) if here else None)
        if not made:
            reason = error.strerror
        if reason is None:
            raise
        expected = "room for it: make room" if no_room else "a place that may be written: change that"
        raise InputError(
            f"{place} cannot be written ({reason}); expected {expected} and repeat the command, or choose another place"
        ) from error


def _quoted(numbers, error):
    """The system's words for the first of some error numbers that an error quotes, or None."""
    said = str(error).lower()  # TensorFlow has words of its own: it "is not a directory"
    return next((text for text in map(os.strerror, numbers) if text.lower() in said), None)


def _flush(path):
    with open(path, "rb+") as file:  # Windows flushes only what is open for writing
        os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_file(path: pathlib.Path):
    """Yields a temporary path beside `path` with the same ending; renamed to `path` if the block succeeds.

    Raises:
        InputError: it cannot be written.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # Keras insists on the endings .keras, .weights.h5
    with writing(path, path.parent):
        try:
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: pathlib.Path):
    """Yields a temporary folder; renamed to `path`, which must not exist or be empty, if the block succeeds.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path, path.parent):
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            with ThreadPoolExecutor(16) as pool:  # pictures may be thousands, and a disk flushes many at a time
                list(pool.map(_flush, filter(pathlib.Path.is_file, temporary.rglob("*"))))
            temporary.chmod(0o755)  # mkdtemp's 0700 would shut out a server that runs as another user
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: pathlib.Path, value: dict) -> None:
    """Writes JSON, indented, whole or not at all."""
    write_bytes(path, _json(value))


def _json(value):
    return (json.dumps(value, indent=2) + "\n").encode()


def write_csv(path: pathlib.Path, rows: list[dict]) -> None:
    """Writes rows as CSV with a header, whole or not at all; a key that a row lacks is an empty cell."""
    write_bytes(path, _csv(rows))


def _csv(rows):
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def read_csv(path: pathlib.Path) -> list[dict]:
    """Returns the rows of a CSV file as strings by column name; no rows where there is no file.

    Raises:
        InputError: it is no CSV file, or a row has more or fewer cells than the header.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline="")))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read; expected the CSV file train.py wrote: restore it") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():  # as DictReader tells of cells too many, and too few
            raise InputError(
                f"{path}: row {number} has {'more' if None in row else 'fewer'} cells than the header; expected the CSV file "
                "train.py wrote: restore it"
            )
    return rows


def report_folder(path: pathlib.Path, name: str) -> pathlib.Path:
    """Returns the folder a report is to go to, once it is sure that it can: measuring may take hours.

    Says so where `write_report` will replace an earlier one of that name.

    Raises:
        InputError: it is, or lies in, a file or a folder that cannot be written.
    """
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not existing.is_dir():
        reason = f"{existing} is a file"
    elif not os.access(existing, os.W_OK | os.X_OK):
        reason = f"{existing} may not be written"
    else:
        if (path / f"{name}.json").exists():
            print(f"The earlier report in {path} will be replaced.", flush=True)
        return path
    raise InputError(f"--output={path}: {reason}; expected a writable folder for the report: choose another")


def write_report(output: pathlib.Path, name: str, result: dict, rows: list[dict], html: str) -> None:
    """Writes a report as JSON, its rows as CSV, and the page; where one of them finds no room, none."""
    contents = {"json": _json(result), "csv": _csv(rows), "html": html.encode()}
    with contextlib.ExitStack() as all_written:  # at its end they get their names
        for ending, data in contents.items():
            temporary = all_written.enter_context(atomic_file(output / f"{name}.{ending}"))
            temporary.write_bytes(data)
            _flush(temporary)  # so that none is refused when another has its name already
    print(f"Report written to {output}: {name}.html, {name}.json and {name}.csv.", flush=True)


def refuse_pipe(path: pathlib.Path) -> None:
    """Raises OSError where something that is no file has this name: a pipe would be waited for without end."""
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is no file")


def user_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path as the user meant it, `~` and `~name` replaced by the home folder.

    Raises:
        InputError: there is no user of that name, or the system takes it for no path at all: one that is too long,
            holds a null byte, or leads back to itself.
    """
    try:
        expanded = pathlib.Path(path).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.stat(expanded)
        return expanded
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"path {str(path)!r} cannot be used ({reason}); expected a path: correct it") from error
    except RuntimeError as error:
        raise InputError(
            f"path {str(path)!r} names a user without a home folder; expected a path: give it in full"
        ) from error
