"""train.py, which kills itself with SIGKILL at a moment; `kill_and_resume.py` starts it.

Its arguments are the moment, a file into which it writes each moment that it comes to, and the flags of train.py. A
moment is a line of that file; one that never comes kills nothing.
"""

import collections
import contextlib
import os
import pathlib
import re
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from aigan_tf import cli

FATAL, LIST, *ARGUMENTS = sys.argv[1:]
FOLDER = pathlib.Path(next(text for text in ARGUMENTS if text.startswith("--workdir=")).partition("=")[2])
TIMES = collections.Counter()


def reach(moment: str) -> None:
    with open(LIST, "a") as file:
        file.write(f"{moment}\n")
    if moment == FATAL:
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def around(event: str):
    """The moments right before and right after what is done in the block, numbered where it comes again."""
    TIMES[event] += 1
    number = f" ({TIMES[event]})" if TIMES[event] > 1 else ""
    reach(f"before {event}{number}")
    yield
    reach(f"after {event}{number}")


def watched(function, doing: str):
    """A function of the system, with moments around what it does to a file or folder of the run, temporary ones apart."""

    def call(*paths, **options):
        path = pathlib.Path(os.fsdecode(paths[-1]))
        if path.name.startswith(".") or not path.is_relative_to(FOLDER):
            return function(*paths, **options)
        with around(f"{path.relative_to(FOLDER)} is {doing}"):
            return function(*paths, **options)

    return call


def watch_training() -> None:
    """Moments within the saving of a checkpoint, and around the switch of the stage."""
    import tensorflow as tf
    from tensorflow.python.ops import gen_io_ops  # TensorFlow's saving calls it; no public function lies in between

    from aigan_tf.method.aigan import AIGAN

    merge, switch = gen_io_ops.merge_v2_checkpoints, AIGAN.stage.fset

    def merge_v2_checkpoints(checkpoint_prefixes, destination_prefix, **options):
        if not tf.executing_eagerly():  # within a graph nothing is merged yet
            return merge(checkpoint_prefixes, destination_prefix, **options)
        path = pathlib.Path(os.fsdecode(destination_prefix.numpy())).relative_to(FOLDER)
        # An export is written to .NUMBER.xxxxxxxx, another name at each run.
        name = re.sub(r"/[.]([0-9]+)[.][^/]+/", r"/\1/", path.as_posix())
        with around(f"{name} is merged of its parts"):
            return merge(checkpoint_prefixes, destination_prefix, **options)

    def set_stage(aigan, stage):
        with around(f"stage {stage} begins"):
            switch(aigan, stage)

    gen_io_ops.merge_v2_checkpoints = merge_v2_checkpoints
    AIGAN.stage = AIGAN.stage.setter(set_stage)


if __name__ == "__main__":
    os.replace = watched(os.replace, "named")
    os.unlink = watched(os.unlink, "removed")
    watch_training()
    sys.argv = ["train.py", *ARGUMENTS]
    cli.train()
