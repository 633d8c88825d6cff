"""Classes that a user gives by name or number."""

import difflib
from collections.abc import Sequence

import numpy as np

from aigan_tf.errors import InputError

MAX_LISTED_CLASSES = 20  # names in an error


def class_numbers(given: Sequence[str], names: Sequence[str], setting: str | None) -> tuple[int, ...]:
    """Returns the numbers of different classes, each as for `class_number`.

    Raises:
        InputError: there is no such class, or one is given twice.
    """
    numbers = tuple(class_number(each, names, setting) for each in given)
    for each, number in zip(given, numbers, strict=True):
        if numbers.count(number) > 1:
            raise InputError(
                each, "each class once", "leave one of them out", setting=setting, problem="is given twice"
            )
    return numbers


def class_number(given: int | str | bytes, names: Sequence[str], setting: str | None) -> int:
    """Returns the number of a class that is given as a number or a name.

    Args:
        given: the class.
        names: name of each class; empty if they are not known.
        setting: the setting or argument that gave it; None for an argument of the command line without a name.

    Raises:
        InputError: there is no such class; the error names one that is spelt alike.
    """
    given = given.decode() if isinstance(given, bytes) else given
    if isinstance(given, str):
        if given in names:
            return list(names).index(given)
        given = int(given) if given.isdecimal() else given
    if not isinstance(given, int | np.integer) or not 0 <= given < (len(names) or 2**31):
        numbers = f"a number from 0 to {len(names) - 1}" if names else "a number, since the names are not known"
        expected = f"one of {listed(names)}, or {numbers}" if names else numbers
        lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(given.lower(), lower, 1) if isinstance(given, str) else []
        fix = f"did you mean {lower[near[0]]!r}?" if near else "give one of these" if names else "give a number, from 0"
        received = given if setting else f"there is no class {given!r}"
        raise InputError(received, expected, fix, setting=setting)
    return int(given)


def listed(names: Sequence[str]) -> str:
    """Returns names by comma, not more than `MAX_LISTED_CLASSES`."""
    return ", ".join([*names[:MAX_LISTED_CLASSES], *(["..."] if len(names) > MAX_LISTED_CLASSES else [])])
