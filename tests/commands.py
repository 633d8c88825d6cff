"""train.py and evaluate.py in this process, on flags of their own."""

import contextlib
import functools
from collections.abc import Callable
from unittest import mock

from absl import flags

from aigan_tf import cli

KINDS = {bool: "bool", int: "integer", float: "float", str: "string"}


def run_in_process(command: Callable[[], None], *arguments: str) -> int:
    """Runs `cli.train` or `cli.evaluate` here and returns its exit status; the parsing of the flags is part of it."""
    parser = flags.FlagValues()
    define = {
        name: functools.partial(getattr(flags, f"DEFINE_{name}"), flag_values=parser)
        for name in (*KINDS.values(), "list", "enum")
    }
    with contextlib.ExitStack() as patched:
        patched.enter_context(mock.patch.object(flags, "FLAGS", parser))
        patched.enter_context(mock.patch.object(cli, "_DEFINE", {kind: define[name] for kind, name in KINDS.items()}))
        for name, function in define.items():
            patched.enter_context(mock.patch.object(flags, f"DEFINE_{name}", function))
        run = functools.partial(_run, arguments=arguments)
        patched.enter_context(mock.patch.object(cli.app, "run", run))
        try:
            command()
        except SystemExit as error:
            return error.code
    return 0


def _run(main, flags_parser, arguments):
    main(flags_parser(["command", *arguments]))
