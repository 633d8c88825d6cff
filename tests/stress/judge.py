"""Whether an answer to a wrong input is right: a refusal in one line, or the acceptance of exactly what was given."""

import contextlib
import dataclasses
import io
import math
import pathlib
import re
import traceback
import typing
from collections.abc import Callable, Sequence
from unittest import mock

from commands import run_in_process

from aigan_tf import cli
from aigan_tf.config import MAX_INT, Config, kind_of
from aigan_tf.errors import InputError
from aigan_tf.training import run

REFUSAL = re.compile(r"\S.*: expected \S.*; \S.*")


class Accepted(BaseException):
    """Ends a command where its work would begin; its arguments are those of the work."""


class Refused(Exception):
    """A command ended with status 2; the argument is the line that it printed."""


def accept(*arguments, **_):
    raise Accepted(*arguments)


def judge(attempt: Callable, wrong_with: Callable) -> str:
    """Returns "refused", "accepted", or what is wrong.

    `attempt` raises InputError or Refused if the package refuses its input; `wrong_with` is called with what it
    returned, and returns what is wrong with that, or None.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = attempt()
    except (InputError, Refused) as error:
        return "refused" if REFUSAL.fullmatch(str(error)) else f"not 'X: expected Y; Z' in one line: {str(error)!r}"
    except Exception:
        return "traceback: " + " | ".join(traceback.format_exc().strip().splitlines()[-3:])[-600:]
    wrong = wrong_with(result)
    return f"accepted silently: {wrong}" if wrong else "accepted"


def config_of_command(arguments: Sequence[str]) -> Config:
    """Runs train.py up to its work and returns the settings of the work, or raises Refused."""
    printed = io.StringIO()
    stubs = dict.fromkeys(("trained_classifier", "hardened_classifier", "train_generator"), accept)
    try:
        with mock.patch.multiple(run, **stubs), contextlib.redirect_stderr(printed):
            status = run_in_process(cli.train, *arguments)
    except Accepted as accepted:
        return accepted.args[0]
    line = printed.getvalue()
    if status != 2 or not line.startswith("error: ") or not line.endswith("\n"):
        raise RuntimeError(f"status {status}: {line[:300]!r}")
    raise Refused(line[:-1])


def settings_wrong(config: Config) -> str | None:
    """Returns the first setting that is not as its field declares: of another type, out of bounds, not a choice."""
    for field in dataclasses.fields(config):
        value, kind, setting = getattr(config, field.name), kind_of(field), field.metadata["setting"]
        if value is None and setting.if_none is not None:
            continue
        values, kinds = (value, typing.get_args(kind)) if typing.get_origin(kind) is tuple else ([value], [kind])
        if [type(each) for each in values] != list(kinds):
            return f"{field.name}={value!r} is not of {kind}"
        if setting.choices is not None and value not in setting.choices:
            return f"{field.name}={value!r} is not one of {setting.choices}"
        low = -math.inf if setting.low is None else setting.low
        high = (MAX_INT if kind is int else math.inf) if setting.high is None else setting.high
        for number in values if kinds[0] in (int, float) else ():
            above = setting.above is None or number > setting.above
            if not (low <= number <= high and above and math.isfinite(number)):
                return f"{field.name}={value!r} is out of bounds"
    return None


def state_of(folder: pathlib.Path) -> dict[str, tuple]:
    """Returns what shows a change of an entry below a folder, by its path; evaluations and locks may change."""
    found = {}
    for path in folder.rglob("*"):
        name, status = path.relative_to(folder).as_posix(), path.lstat()
        if "evaluation" not in name and path.name != ".lock":
            found[name] = (status.st_mode, status.st_size, status.st_mtime_ns if path.is_file() else 0)
    return found


def first_difference(found: dict, expected: dict) -> str | None:
    """Returns the first name whose value is not as expected, or None."""
    return next((f"another {name}" for name in expected if found.get(name) != expected[name]), None)
