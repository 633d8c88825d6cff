"""Command-line flags by absl: help by groups, positional arguments, and errors in one line."""

import contextlib
import difflib
import inspect
import os
import pathlib
import shlex
import signal
import sys
import textwrap
import types
from collections.abc import Callable, Sequence

from absl import flags, logging

from aigan_tf.errors import DivergedError, InputError, Terminated, shown_value

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

    def parse(self, arguments: Sequence[str] | None = None) -> tuple[list[str], flags.FlagValues]:
        """Returns positional arguments and flags; `--help` prints and exits with status 0.

        Args:
            arguments: None for those of the process.

        Raises:
            InputError: an argument is unknown, cannot be parsed, or is empty.
        """
        arguments = sys.argv[1:] if arguments is None else list(arguments)
        if {"--help", "-h", "-help", "--helpshort", "--helpfull"} & set(arguments):
            _print_and_exit(self.help())
        try:
            given = self.values(["command", *arguments])[1:]
        except flags.UnrecognizedFlagError as error:
            close = difflib.get_close_matches(error.flagname, list(self.values), 1)
            fix = f"did you mean --{close[0]}?" if close else "see --help"
            raise InputError(f"unknown flag --{error.flagname}", "a flag that --help lists", fix) from error
        except (flags.Error, ValueError) as error:  # ValueError: --noflip=1, a flag file that is not text
            raise InputError(str(error).rstrip("."), "a value as --help describes it", "correct it") from error
        if len(given) > len(self.positional) and not (self.positional and self.positional[-1].endswith("...")):
            expected = " ".join(self.positional) or "flags alone, as --flag=value"
            raise InputError(f"unexpected argument {given[-1]!r}", expected, "see --help")
        for name in self.values:
            value = self.values[name].value
            if value in ("", []) or (isinstance(value, list) and "" in value):
                raise InputError("", "a value", "give one, or leave it out", setting=name)
        return given, self.values

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


def _print_and_exit(text):
    with contextlib.suppress(BrokenPipeError):
        print(text, flush=True)
        sys.exit(0)
    # `--help | head`: Python would report at exit that it could not write.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def command_line(name: str, arguments: Sequence[str]) -> str:
    """Returns a command for the shell, by the program that was called: train.py, aigan-train or python -m aigan_tf train."""
    python, program = pathlib.PurePath(sys.executable or "python").name, pathlib.PurePath(sys.argv[0])
    if program.name == "__main__.py":
        called = [python, "-m", "aigan_tf", name]
    elif program.suffix == ".py":
        called = [python, str(program)]
    else:
        called = [program.name]
    return shlex.join([*called, *arguments])


@contextlib.contextmanager
def exit_status():
    """Turns what ends a command early into one line and an exit status.

    2 for an `InputError`, 1 for a `DivergedError`, and as in shells 130 for Ctrl-C and 143 for SIGTERM.

    Yields:
        An object whose `hint` is called for the end of the line that an interruption prints.
    """
    interruption = types.SimpleNamespace(hint=str)

    def terminate(number, frame):
        raise Terminated

    def end(line, status):
        print(line, file=sys.stderr)
        sys.exit(status)

    logging.set_verbosity(logging.WARNING)  # hides TensorFlow's notes on saving
    before = signal.signal(signal.SIGTERM, terminate)  # Python's own handler would leave half-written files behind
    try:
        yield interruption
    except InputError as error:
        end(f"error: {error.message(_as_flag)}", 2)
    except DivergedError as error:
        end(f"error: {error.message(_as_flag)}", 1)
    except Terminated:
        end(f"\nterminated{interruption.hint()}", 143)
    except KeyboardInterrupt:
        end(f"\ninterrupted{interruption.hint()}", 130)
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_flag(setting):
    return f"--{setting}"
