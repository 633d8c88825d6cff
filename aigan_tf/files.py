"""Files and folders that appear whole or not at all; a full disk or missing permission becomes an InputError."""

import contextlib
import csv
import errno
import io
import itertools
import json
import os
import pathlib
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from aigan_tf.errors import DivergedError, InputError, say

# Errors of the system that mean that a file or folder cannot be written.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_ALLOWED = {
    errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY,
    errno.ELOOP, errno.ENAMETOOLONG,
}  # fmt: skip
_LEFTOVERS = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information", "lost+found",
}  # fmt: skip
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}  # of a file system that knows no fsync
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # of a file system that knows no flock
_FULL = 2**20  # bytes; a disk with less free is full
MAX_TEXT = 2**25  # bytes of a file of settings, names or metrics; parsed, JSON takes twenty times as much
MAX_PICTURE = 2**28  # bytes of an image file


def user_path(path: str | os.PathLike) -> pathlib.Path:
    """Returns a path with `~` and `~name` replaced by the home folder.

    Raises:
        InputError: there is no user of that name, or the system does not accept the path: it is too long, holds a null
            byte, or is a link that leads back to itself.
    """
    try:
        expanded = pathlib.Path(path).expanduser()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.stat(expanded)
        return expanded
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"a path cannot be used ({reason}): {str(path)!r}", "a path that the system accepts", "choose another"
        ) from error
    except RuntimeError as error:
        raise InputError(f"there is no home folder for {str(path)!r}", "a path", "give it in full") from error


def require_regular_file(path: pathlib.Path) -> pathlib.Path:
    """Returns `path`.

    Raises:
        OSError: it exists and is not a regular file. Reading a FIFO would block forever.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a file", str(path))
    return path


def read_bytes(path: pathlib.Path, limit: int = MAX_TEXT) -> bytes:
    """Returns the content of a regular file.

    Raises:
        OSError: it is larger than `limit` bytes, is not a regular file, or cannot be read.
    """
    with open(require_regular_file(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EINVAL, f"larger than {limit / 2**20:.0f} MiB", str(path))
        return file.read()


def _is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or is one that a desktop, an archive or a disk leaves beside a user's files."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def visible_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders in a folder, links to folders too, without hidden ones, by name."""
    return [pathlib.Path(entry.path) for entry in _visible_entries(folder) if _is_folder(entry)]


def visible_files(folder: pathlib.Path, deep: bool = True, _above: tuple[str, ...] = ()) -> Iterator[pathlib.Path]:
    """Yields what is not a folder in a folder, and below it if `deep`, by name. Links are followed, hidden entries skipped.

    Raises:
        InputError: a folder cannot be read, or a link leads to a folder above it.
    """
    real = os.path.realpath(folder)
    if real in _above:
        raise InputError(f"{folder} is a link to a folder above it", "links that do not lead back", "remove it")
    for entry in _visible_entries(folder):
        if not _is_folder(entry):
            yield pathlib.Path(entry.path)
        elif deep:
            yield from visible_files(pathlib.Path(entry.path), deep, (*_above, real))


def _visible_entries(folder):
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not _is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read ({error.strerror})", "a readable folder", "change its permissions"
        ) from error


def _is_folder(entry):
    with contextlib.suppress(OSError):  # a link that leads to itself
        return entry.is_dir()
    return False


def with_numbers(name: str) -> Iterator[str]:
    """Yields a name, then the same ending in _2, _3, ..."""
    yield name
    yield from (f"{name}_{number}" for number in itertools.count(2))


def different_names(names: Iterable[str]) -> list[str]:
    """Returns the names, with numbers so that no two are the same."""
    found = {}
    for name in names:
        found[next(each for each in with_numbers(name) if each not in found)] = None
    return list(found)


def numbered(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the entries of a folder whose names are numbers, in numeric order."""
    named = [path for path in folder.glob("*") if re.fullmatch("[0-9]+", path.name)]
    return sorted(named, key=lambda path: int(path.name))


def latest_version(folder: pathlib.Path) -> pathlib.Path | None:
    """Returns the newest exported version, `folder/N` with the largest N; None if there is none."""
    return next(reversed(numbered(folder)), None)


@contextlib.contextmanager
def writing(path: pathlib.Path, folder: pathlib.Path, setting: str | None = None):
    """Creates `folder`, and turns a full disk and missing permission within the block into an InputError.

    Args:
        path: what the block writes, for the message.
        folder: where it writes; created if it does not exist.
        setting: the setting that named `path`, if one did.

    Raises:
        InputError: the folder cannot be created, or the system refused to write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(path, error.errno, setting) from error
    try:
        yield
    except (InputError, DivergedError):
        raise
    except Exception as error:
        number = _refusal_by_system(error, folder)
        if number is None:
            raise
        raise _not_written(path, number, setting) from error


def _not_written(path, number, setting):
    problem = f"cannot be written ({os.strerror(number)})"
    no_room = number in _NO_ROOM
    return InputError(
        path if setting else f"{path} {problem}",
        "room for it" if no_room else "a writable place",
        f"{'make room and repeat the command' if no_room else 'change its permissions'}, or choose another place",
        setting=setting,
        problem=problem if setting else "",
    )


def _refusal_by_system(error, folder):
    """Returns the errno if an error means that something in or above `folder` could not be written, else None."""
    if isinstance(error, OSError) and error.errno is not None:
        named = isinstance(error.filename, str | os.PathLike)
        place, folder = (pathlib.Path(path).absolute() for path in (error.filename if named else folder, folder))
        concerned = place.is_relative_to(folder) or folder.is_relative_to(place)
        return error.errno if concerned and error.errno in _NO_ROOM | _NOT_ALLOWED else None
    # TensorFlow's errors keep no errno. For large files `engine.file_errors` restores it; an event file of TensorBoard
    # grows by little, so that a disk it does not fit on is full.
    return errno.ENOSPC if shutil.disk_usage(folder).free < _FULL else None


def _flush(path):
    with open(path, "rb+") as file:  # Windows flushes only files that are open for writing
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise


def _temporary_path(folder, name, removed):
    """Returns a path for a file or folder called `name` in a new folder, which the exit stack `removed` removes.

    Of a folder's own mode, 0700, nothing is left in what is made there: that follows the umask. `unfinished_name`
    recognises the folder, unless the name is too long to be a part of another.
    """
    prefix = os.fsencode(name)[:240].decode(errors="ignore")  # at most 255 bytes
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{prefix}.", dir=folder))
    removed.callback(shutil.rmtree, temporary, ignore_errors=True)
    return temporary / name


def unfinished_name(entry: pathlib.Path) -> str | None:
    """Returns the name of the file or folder whose writing was killed and left this temporary folder; None for all else."""
    found = re.fullmatch(r"\.(.+)\.[a-z0-9_]{8}", entry.name)
    if found and entry.is_dir() and not entry.is_symlink() and {*os.listdir(entry)} <= {found[1]}:
        return found[1]
    return None


def is_empty(folder: pathlib.Path) -> bool:
    """Whether a folder holds nothing but hidden files and what a disk has by itself.

    Raises:
        InputError: it cannot be read.
    """
    return not _visible_entries(folder)


@contextlib.contextmanager
def atomic_file(path: pathlib.Path):
    """Yields a path of the same name in a temporary folder beside `path`; renamed to `path` if the block succeeds.

    Raises:
        InputError: it cannot be written.
    """
    with contextlib.ExitStack() as cleanup:
        removed = cleanup.enter_context(contextlib.ExitStack())
        cleanup.enter_context(writing(path, path.parent))  # left first: the disk is still as full as it was
        temporary = _temporary_path(path.parent, path.name, removed)
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)


@contextlib.contextmanager
def atomic_folder(path: pathlib.Path):
    """Yields a temporary folder; renamed to `path`, which must not exist or be empty, if the block succeeds.

    An empty folder stays, since it may be a mounted volume or behind a link: its content appears at once, files last.
    What a killed process left of the same folder is removed.

    Raises:
        InputError: it cannot be written.
    """
    with contextlib.ExitStack() as cleanup:
        removed = cleanup.enter_context(contextlib.ExitStack())
        cleanup.enter_context(writing(path, path.parent))
        exists = os.path.lexists(path)
        if exists and not (path.is_dir() and is_empty(path)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        parent = path if exists else path.parent
        for entry in parent.glob(".*"):
            if unfinished_name(entry) == path.name:
                shutil.rmtree(entry, ignore_errors=True)
        temporary = _temporary_path(parent, path.name, removed)
        temporary.mkdir()
        yield temporary
        with ThreadPoolExecutor(16) as pool:  # images may be thousands, and a disk flushes many at a time
            list(pool.map(_flush, filter(pathlib.Path.is_file, temporary.rglob("*"))))
        if not exists:
            os.replace(temporary, path)
            return
        for entry in sorted(temporary.iterdir(), key=pathlib.Path.is_file):
            os.replace(entry, path / entry.name)


@contextlib.contextmanager
def locked(path: pathlib.Path, wait: bool):
    """Holds a lock file while the block lasts; the lock of a dead process does not count.

    Raises:
        BlockingIOError: another process holds it, without `wait`.
        InputError: a link or something else that is not a file has its name.
        OSError: the file cannot be written.
    """
    import filelock  # here: it takes long to import, and a run's folder is checked first

    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise InputError(f"{path} is not a file", "a lock file, or nothing", "remove it")
    if _has_locks(path.parent):
        lock = filelock.FileLock(path)
    else:
        say(f"{path.parent} is on a file system without locks: a file stands in for one.")
        lock = filelock.SoftFileLock(path.with_name(f"{path.name}.pid"))
    try:
        lock.acquire(blocking=wait)
    except filelock.Timeout as error:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path)) from error
    try:
        yield
    finally:
        lock.release()


def _has_locks(folder):
    """Whether files in a folder can be locked. Asked first: without flock, two of filelock's own locks can both be held."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
    return True


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: pathlib.Path, value: dict) -> None:
    """Writes JSON, indented, whole or not at all."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: dict) -> bytes:
    """Returns a JSON file's content, indented."""
    return (json.dumps(value, indent=2) + "\n").encode()


def write_csv(path: pathlib.Path, rows: list[dict]) -> None:
    """Writes rows as CSV with a header, whole or not at all; a key that a row lacks is an empty cell."""
    write_bytes(path, csv_bytes(rows))


def csv_bytes(rows: Sequence[Mapping]) -> bytes:
    """Returns a CSV file's content with a header; a key that a row lacks is an empty cell.

    Text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: inert(cell) for name, cell in row.items()} for row in rows)
    return text.getvalue().encode()


def inert(cell: object) -> object:
    """Returns a cell of a CSV file that no spreadsheet takes for a formula: numbers as they are."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
    return cell


def read_csv(path: pathlib.Path) -> list[dict]:
    """Returns the rows of a CSV file as strings by column name; no rows if there is no file.

    Raises:
        InputError: it is not a CSV file, or a row has more or fewer cells than the header.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(read_bytes(path).decode(), newline="")))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read", "the CSV file train.py wrote", "restore it from a copy") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():  # DictReader's signs of too many cells, and of too few
            more = "more" if None in row else "fewer"
            raise InputError(
                f"{path}: row {number} has {more} cells than the header",
                "the CSV file train.py wrote",
                "restore it from a copy",
            )
    return rows
