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

from aigan_tf.config import MAX_INT, Config, kind_of
from aigan_tf.errors import InputError

ANOTHER = "accepted as another model"
RIGHT = ("refused", "accepted", ANOTHER)
REFUSAL = re.compile(r"\S.*: expected \S.*; \S.*")


class Accepted(BaseException):
    """Ends a command where its work would begin; its arguments are those of the work."""


class Refused(Exception):
    """A command ended with status 2; the argument is the line that it printed."""


def accept(*arguments, **others):
    raise Accepted(*arguments)


def judge(attempt: Callable, wrong_with: Callable) -> str:
    """Returns one of `RIGHT`, or what is wrong.

    `attempt` raises InputError or Refused if the package refuses its input; `wrong_with` is called with what it
    returned, and returns what is wrong with that, None, or `ANOTHER`.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            result = attempt()
    except (InputError, Refused) as error:
        return "refused" if REFUSAL.fullmatch(str(error)) else f"not 'X: expected Y; Z' in one line: {str(error)!r}"
    except Exception:
        return "traceback: " + " | ".join(traceback.format_exc().strip().splitlines()[-3:])[-600:]
    wrong = wrong_with(result)
    return wrong if wrong == ANOTHER else f"accepted silently: {wrong}" if wrong else "accepted"


def run_command(command: Callable, arguments: Sequence[str], stubs: Sequence[tuple[object, str]]) -> tuple:
    """Runs a command of `cli` up to its work and returns the arguments of the work, or raises Refused.

    `stubs` are the modules and names of the functions that do the work.
    """
    printed = io.StringIO()
    try:
        with contextlib.ExitStack() as stubbed:
            for stub in stubs:
                stubbed.enter_context(mock.patch.object(*stub, accept))
            stubbed.enter_context(contextlib.redirect_stderr(printed))
            status = run_in_process(command, *arguments)
    except Accepted as accepted:
        return accepted.args
    line = printed.getvalue()
    if status != 2 or not line.startswith("error: ") or not line.endswith("\n"):
        raise RuntimeError(f"status {status}: {line[:300]!r}")
    raise Refused(line[:-1])


def given_flags(arguments: Sequence[str], kinds: dict[str, type]) -> tuple[list[str], dict[str, str]]:
    """Returns the positional arguments, and the text of each flag of an accepted command line.

    `kinds` are the flags' types; a bool needs no value.
    """
    positional, given, rest = [], {}, list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, text = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            positional.append(argument)
        elif name.removeprefix("no") in kinds and name not in kinds:
            given[name.removeprefix("no")] = "false"
        else:
            given[name] = text if equals else "true" if kinds[name] is bool else rest.pop(0)
    return positional, given


def parsed(text: str, kind: type):
    """Returns the value that a flag's text means."""
    if typing.get_origin(kind) is tuple:
        return tuple(map(parsed, text.split(","), typing.get_args(kind)))
    if kind is bool:
        return text.lower() in ("true", "t", "1")
    if kind is float and "/" in text:
        dividend, divisor = text.split("/")
        return float(dividend) / float(divisor)
    return int(text, 16) if kind is int and "x" in text else kind(text)


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
