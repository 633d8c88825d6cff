"""absl's flags, so that --help shows defaults and an error is one line."""

import inspect
import os
import signal
import sys
from collections.abc import Callable

from absl import app, flags, logging

from aigan_tf.errors import DivergedError, InputError, Terminated


class _Number(flags.FloatParser):
    """Takes 8/255 too."""

    def convert(self, argument):
        dividend, slash, divisor = str(argument).partition("/")
        try:
            return float(dividend) / float(divisor) if slash else super().convert(argument)
        except ZeroDivisionError as error:
            raise ValueError("division by zero") from error


def _define_number(name, default, help, flag_values, **bounds):
    flags.DEFINE(_Number(**bounds), name, default, help, flag_values)


_DEFINE = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: _define_number,
    str: flags.DEFINE_string,
    list: flags.DEFINE_list,
}


def define(kind: Callable, name: str, default, help_text: str, shown: str = "", **others) -> None:
    """Defines a flag that --help lists, with its default.

    Args:
        kind: bool, int, float, str, list (by comma), or another of absl's functions.
        default: its value where it is not given.
        shown: what --help says of that, where the value itself says too little.
        **others: what absl's function takes besides.
    """
    _DEFINE.get(kind, kind)(name=name, default=default, help=help_text, flag_values=flags.FLAGS, **others)
    flag = flags.FLAGS[name]
    flag.default_as_str = shown or shown_value(default)  # absl would quote numbers and show nothing for None
    flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)  # else only --helpfull lists it


def shown_value(value: bool | int | float | str | None) -> str:
    """Returns a value as one would say it, such as 8/255."""
    if isinstance(value, float):
        return min(f"{value:.15g}", f"{value * 255:.15g}/255", key=len)
    return str(value).lower() if isinstance(value, bool | None) else str(value) or "empty"


def run(main: Callable[[], None], going_on: str = "") -> None:
    """Runs `main()` under absl; what ends it early becomes one line and an exit status.

    2 for an `InputError`, 1 for a `DivergedError`, and as shells have it 130 for Ctrl-C and 143 for SIGTERM.

    Args:
        main: what to do; --help begins with its docstring.
        going_on: what the line of an interruption says besides.
    """

    def guarded(arguments):
        logging.set_verbosity(logging.WARNING)  # TensorFlow's notes on how it saves are no news to a user
        # Python's own answer to SIGTERM would leave half-written files behind.
        before = signal.signal(signal.SIGTERM, terminate)
        try:
            if len(arguments) > 1:
                raise InputError(f"unexpected argument {arguments[1]!r}; expected only --flag=value: see --help")
            main()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except DivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except Terminated:
            print(f"\nterminated{going_on}", file=sys.stderr)
            sys.exit(143)
        except KeyboardInterrupt:
            print(f"\ninterrupted{going_on}", file=sys.stderr)
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, before)

    def terminate(number, frame):
        raise Terminated

    sys.set_int_max_str_digits(0)  # a number of any length is refused by its size, in a message that shows it
    # Where absl looks for it; the script of an installed command has none.
    sys.modules["__main__"].__doc__ = inspect.getdoc(main)
    app.run(guarded, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags and answers --help; a mistyped one is answered in one line too."""
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        refused = InputError(f"{error}; expected the flags that --help lists: correct it")
        print(f"error: {refused}", file=sys.stderr)
        sys.exit(2)
    except (SystemExit, OSError):  # after --help, for which absl's status is 1; or `--help | head`
        try:
            sys.stdout.flush()
        except OSError:  # at the end of the process Python would report what it cannot write
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def refuse_empty(values, *names):
    """Refuses flags that are given, but without a value."""
    for name in names:
        if values[name].value in ("", []):
            raise InputError(f"--{name} is empty; expected a value: give one, or leave the flag out")
