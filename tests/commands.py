"""train.py and evaluate.py in this process, on flags of their own."""

import functools
from collections.abc import Callable
from unittest import mock

from absl import flags

from aigan_tf import cli


def run_in_process(command: Callable[[], None], *arguments: str) -> int:
    """Runs `cli.train` or `cli.evaluate` here and returns its exit status; the parsing of the flags is part of it."""
    run = functools.partial(_run, arguments=arguments)
    with mock.patch.object(flags, "FLAGS", flags.FlagValues()), mock.patch.object(cli.app, "run", run):
        try:
            command()
        except SystemExit as error:
            return error.code
    return 0


def _run(main, flags_parser, arguments):
    main(flags_parser(["command", *arguments]))
