"""AI-GAN (arXiv 2002.02196v1): one generator of adversarial perturbations for every target class."""

import importlib
import os
from typing import TYPE_CHECKING

__version__ = "0.2.0"  # pyproject.toml reads it here

# The training steps are written in TensorFlow, so the backend in keras.json or the environment is not used.
os.environ["KERAS_BACKEND"] = "tensorflow"
# Must be set before TensorFlow is imported, which turns on oneDNN by itself only on the newest processors. On an AMD EPYC
# without AVX-512 it makes a training step of a ResNet-20 1.75 times as fast.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Hides TensorFlow's notes on missing GPUs and abandoned graph rewrites; real errors reach Python as exceptions. The notes
# of its import are printed before TensorFlow reads this; commands send them to a file (terminal.py).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Imported on first use: TensorFlow takes seconds to import, and a mistyped flag should be answered at once.
_MODULE_OF = {
    "fit_generator": "api",
    "load_generator": "trained_generator",
    "attack": "api",
    "evaluate": "api",
    "AIGAN": "method.aigan",
}
__all__ = ["AIGAN", "attack", "evaluate", "fit_generator", "load_generator"]

if TYPE_CHECKING:  # for type checkers and editors
    from aigan_tf.api import attack, evaluate, fit_generator
    from aigan_tf.method.aigan import AIGAN
    from aigan_tf.trained_generator import load_generator
else:

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__():
    return sorted([*globals(), *__all__])
