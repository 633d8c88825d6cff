"""Command-line flags by absl: help by groups, positional arguments, and suggestions for misspelt flags."""

import contextlib
import difflib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence

from absl import flags

import aigan_tf
from aigan_tf.errors import InputError, shown_value

WIDTH = 80


class _Number(flags.FloatParser):
    """A number, also as a fraction: 8/255."""

    def convert(self, argument):
        dividend, slash, divisor = str(argument).partition("/")
        try:
            return float(dividend) / float(divisor) if slash else super().convert(argument)
        except ZeroDivisionError as error:
            raise ValueError("division by zero") from error


class _Numbers(flags.ArgumentParser):
    """Numbers separated by commas: 0,255."""

    def __init__(self, number: Callable):
        self.number = number

    def parse(self, argument):
        parts = argument.split(",") if isinstance(argument, str) else argument  # absl parses defaults too
        return tuple(map(self.number, parts))

    def flag_type(self):
        return "numbers by comma"


class _Texts(flags.ArgumentParser):
    """Texts separated by commas: cat,dog."""

    def parse(self, argument):
        parts = argument.split(",") if isinstance(argument, str) else argument  # absl parses defaults too
        return tuple(part.strip() for part in parts)

    def flag_type(self):
        return "texts by comma"


class _List(flags.ListParser):
    """Values by comma; a file or folder whose name has commas is one."""

    def parse(self, argument):
        if isinstance(argument, str) and "," in argument and os.path.exists(os.path.expanduser(argument)):
            return [argument]
        return super().parse(argument)


_PARSERS = {
    int: flags.IntegerParser,
    float: _Number,
    str: flags.ArgumentParser,
    list: _List,
    tuple[int, int]: lambda: _Numbers(int),
    tuple[float, float]: lambda: _Numbers(float),
    tuple[float, ...]: lambda: _Numbers(float),
    tuple[str, ...]: _Texts,
}
_EXPECTED = {  # by kind, with an example
    int: ("a whole number", "10"),
    float: ("a number or a fraction", "0.5"),
    tuple[int, int]: ("two whole numbers separated by a comma", "32,32"),
    tuple[float, float]: ("two numbers separated by a comma", "0,255"),
    tuple[float, ...]: ("numbers separated by commas", "0.5,0.5,0.5"),
}


class Flags:
    """The flags of one command.

    Args:
        usage: what `--help` begins with.
        positional: names of the positional arguments, for messages; the last may be repeated if it ends in "...".
    """

    def __init__(self, usage: str, positional: Sequence[str] = ()):
        self.usage = inspect.cleandoc(usage)
        self.positional = positional
        self.values = flags.FlagValues()
        self.values.set_gnu_getopt()  # flags may follow positional arguments
        self.groups: dict[str, list[str]] = {}
        self.kinds: dict[str, type] = {}

    def add(
        self,
        kind: type,
        name: str,
        default,
        help_text: str,
        group: str = "",
        default_text: str = "",
        choices: Sequence[str] | None = None,
    ) -> None:
        """Adds a flag.

        Args:
            kind: bool, int, float, str, list (by comma) or a tuple of numbers.
            default: the value if the flag is not given.
            help_text: one line; other flags stand in backticks.
            group: heading of `--help` below which it stands.
            default_text: what `--help` shows as the default, if the value itself says too little.
            choices: the only values of a str.
        """
        text = help_text.replace("`", "")
        if kind is bool:
            flags.DEFINE_bool(name, default, text, self.values)
        else:
            parser = flags.EnumParser(choices) if choices else _PARSERS[kind]()
            flags.DEFINE(parser, name, default, text, self.values)
        self.values[name].default_as_str = default_text or shown_value(default)
        self.groups.setdefault(group, []).append(name)
        self.kinds[name] = kind

    def parse(self, arguments: Sequence[str] | None = None) -> tuple[list[str], flags.FlagValues]:
        """Returns positional arguments and flags; `--help` and `--version` print and exit with status 0.

        Args:
            arguments: None for those of the process.

        Raises:
            InputError: an argument is unknown, cannot be parsed, or is empty.
        """
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        if {"--help", "-h", "-help", "--helpshort", "--helpfull"} & set(arguments):
            print_and_exit(self.help())
        if "--version" in arguments:
            print_and_exit(shown_version())
        try:
            given = self.values(["command", *arguments])[1:]
        except flags.UnrecognizedFlagError as error:
            fix = self._flags_meant(error.flagname) or "see --help"
            raise InputError(f"unknown flag --{error.flagname}", "a flag that --help lists", fix) from error
        except flags.IllegalFlagValueError as error:
            raise self._unreadable(error) from error
        except (flags.Error, ValueError) as error:  # ValueError: --noflip=1, a flag file that is not text
            raise InputError(str(error).rstrip("."), "flags as --help shows them", "see --help") from error
        if len(given) > len(self.positional) and not (self.positional and self.positional[-1].endswith("...")):
            expected = " ".join(self.positional) or "flags alone, as --flag=value"
            first = next(iter(self.kinds), None)
            fix = f"did you mean --{first}={given[-1]}?" if first and not self.positional else "see --help"
            raise InputError(f"unexpected argument {given[-1]!r}", expected, fix)
        for name in self.values:
            value = self.values[name].value
            if value in ("", []) or (isinstance(value, list) and "" in value):
                raise InputError("", "a value", "give one, or leave it out", setting=name)
        return given, self.values

    def _flags_meant(self, given):
        """Returns a question about up to three flags that an unknown one may stand for; empty if there is none.

        A misspelt name, words of the name (epochs), how it begins or its initials (eps, lr), or a word of the help (gpus).
        """
        given = given.replace("-", "_").lower()
        if given.upper() in self.positional:
            return f"give its value alone, without --{given}="
        words = given.split("_")
        names = [name for group in self.groups.values() for name in group]
        parts = {name: name.split("_") for name in names}

        def explained(name):
            help_words = re.findall(r"[a-z0-9]+", self.values[name].help.lower())
            return any(word.startswith(given.removesuffix("s")) for word in help_words)

        for found in (
            difflib.get_close_matches(given, names, 1, 0.8),
            [name for name in names if {*words} <= {*parts[name]}],
            [name for name in names if name.startswith(given) or given == "".join(part[0] for part in parts[name])],
            [name for name in names if {*words} & {*parts[name]} or name.endswith(words[-1])],
            difflib.get_close_matches(given, names, 1),
            filter(explained, names),
        ):
            if flags_meant := [f"--{name}" for name in found][:3]:
                return f"did you mean {' or '.join(flags_meant)}?"
        return ""

    def _unreadable(self, error):
        """Returns the error of a value that is not of its flag's kind, with the value that was probably meant."""
        name, _, value = str(error).removeprefix("flag --").removesuffix(f": {error.__context__}").partition("=")
        flag, kind = self.values[name], self.kinds[name]
        choices = getattr(flag.parser, "enum_values", None)
        if choices:
            near = difflib.get_close_matches(value, choices, 1)
            fix = f"did you mean {near[0]}?" if near else f"give e.g. {choices[0]}"
            return InputError(value, " or ".join(choices), fix, setting=name)
        if kind is bool:
            return InputError(value, "true or false", f"give --{name} or --no{name}", setting=name)
        expected, example = _EXPECTED[kind]
        meant = _meant(value, kind)
        default = flag.default_as_str.partition(";")[0]
        fix = f"did you mean {meant}?" if meant else f"give e.g. {default if _is_read(default, kind) else example}"
        return InputError(value, expected, fix, setting=name)

    def help(self) -> str:
        """Returns the text of `--help`, at most 80 columns wide."""
        parts = [self.usage]
        for group, names in self.groups.items():
            parts.append(f"{group or 'flags'}:")
            for name in names:
                flag = self.values[name]
                choices = getattr(flag.parser, "enum_values", ())
                shown = f"--{'[no]' if flag.boolean else ''}{name}{'=' if choices else ''}{'|'.join(choices)}"
                parts[-1] += "\n" + textwrap.fill(
                    f"{shown}: {flag.help} (default: {flag.default_as_str})", WIDTH, initial_indent="  ",
                    subsequent_indent="      ", break_long_words=False, break_on_hyphens=False,
                )  # fmt: skip
        return "\n\n".join(parts)


def _meant(value, kind):
    """Returns a readable way to write a value: 0.03 for 0,03, 32,32 for 32x32, 1000 for 1e3; None if there is none."""
    meant = (
        re.sub(r"(?<=\d)[-x:; ]+(?=[-.\d])", ",", value)
        if kind in (tuple[int, int], tuple[float, float], tuple[float, ...])
        else value.replace(",", ".")
    )
    if kind is int:
        with contextlib.suppress(ValueError, OverflowError):
            meant = str(int(float(value))) if float(value).is_integer() else value
    return meant if _is_read(meant, kind) else None


def _is_read(value, kind):
    try:
        _PARSERS[kind]().parse(value)
    except (ValueError, OverflowError):
        return False
    return True


def shown_version() -> str:
    """Returns what `--version` prints."""
    return f"aigan_tf {aigan_tf.__version__}"


def print_and_exit(text: str) -> None:
    """Prints a text instead of running the command, and exits with status 0."""
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)
        sys.exit(0)
    # `--help | head`: Python would report at exit that it could not write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)
