"""python -m aigan_tf COMMAND, which is the same as aigan-COMMAND."""

from aigan_tf.cli import main

main()
