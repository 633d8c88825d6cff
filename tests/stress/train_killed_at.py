"""train.py that kills itself with SIGKILL at one moment; `kill_and_resume.py` starts it.

    python tests/stress/train_killed_at.py MOMENT FILE --workdir=FOLDER ...

Every moment that is reached is appended to FILE as a line. MOMENT is such a line; "none" kills nothing.
"""

import collections
import contextlib
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from aigan_tf import cli

FATAL, REACHED, *ARGUMENTS = sys.argv[1:]
FOLDER = pathlib.Path(next(text for text in ARGUMENTS if text.startswith("--workdir=")).partition("=")[2])
TIMES = collections.Counter()


def reach(moment: str) -> None:
    with open(REACHED, "a") as file:
        file.write(f"{moment}\n")
    if moment == FATAL:
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def moments_around(event: str):
    """The moments right before and right after the block, numbered if the event happens again."""
    TIMES[event] += 1
    number = f" ({TIMES[event]})" if TIMES[event] > 1 else ""
    reach(f"before {event}{number}")
    yield
    reach(f"after {event}{number}")


def watched(function, done: str):
    """Returns `os.replace` or `os.unlink` with moments around it, for files of the run that are not temporary."""

    def call(*paths, **options):
        path = pathlib.Path(os.fsdecode(paths[-1]))
        if path.name.startswith(".") or not path.is_relative_to(FOLDER):
            return function(*paths, **options)
        with moments_around(f"{path.relative_to(FOLDER)} is {done}"):
            return function(*paths, **options)

    return call


if __name__ == "__main__":
    os.replace = watched(os.replace, "named")
    os.unlink = watched(os.unlink, "removed")

    import tensorflow as tf
    from tensorflow.python.ops import gen_io_ops  # TensorFlow's saving calls it, and no public function in between

    from aigan_tf.method.aigan import AIGAN

    merge, switch = gen_io_ops.merge_v2_checkpoints, AIGAN.stage.fset

    def merge_v2_checkpoints(*arguments, **options):
        with moments_around("a checkpoint is merged") if tf.executing_eagerly() else contextlib.nullcontext():
            return merge(*arguments, **options)

    def set_stage(aigan, stage):
        with moments_around(f"stage {stage} begins"):
            switch(aigan, stage)

    gen_io_ops.merge_v2_checkpoints = merge_v2_checkpoints
    AIGAN.stage = AIGAN.stage.setter(set_stage)
    cli.train(ARGUMENTS)
