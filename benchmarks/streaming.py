"""Whether memory stays flat where a data set is larger than what is held in memory, and how fast its batches are read.

    python benchmarks/streaming.py --dataset=cifar10 --image_size=192,192 --output=docs/results/performance/streaming.json

Loads the data set as train.py does and reads its training batches for some epochs, without a model. Reported after each epoch:
the process's own memory, and apart from it the pages of the file, which the system drops when it needs the room.
"""

import math
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
from absl import app, flags

from aigan_tf.data.batches import training_batches
from aigan_tf.data.datasets import load

_DATASET = flags.DEFINE_string("dataset", "cifar10", "a data set, as in train.py")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
_IMAGE_SIZE = flags.DEFINE_list("image_size", ["192", "192"], "height and width to resize to, by comma")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "images a batch", lower_bound=1)
_EPOCHS = flags.DEFINE_integer("epochs", 4, "passes over the training images", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "", "where to write the JSON; empty: only print")


def memory() -> dict[str, float]:
    """Returns the process's own memory and that of mapped files, in MiB (Linux)."""
    status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
    return {name: int(status[key].split()[0]) / 1024 for name, key in (("own", "RssAnon"), ("files", "RssFile"))}


def main(_):
    began = time.perf_counter()
    dataset = load(_DATASET.value, _DATA_DIR.value, tuple(int(side) for side in _IMAGE_SIZE.value))
    train = dataset.train
    result = {
        "dataset": _DATASET.value,
        "images": len(train),
        "image_shape": dataset.image_shape,
        "pixels_mib": round(math.prod(train.images.shape) / 2**20),
        "on_disk": train.on_disk,
        "loading_seconds": round(time.perf_counter() - began, 1),
        "loaded": memory(),
        "epochs": [],
    }
    steps = len(train) // _BATCH_SIZE.value
    batches = iter(training_batches(train, _BATCH_SIZE.value, seed=0))
    for epoch in range(1, _EPOCHS.value + 1):
        began = time.perf_counter()
        for _ in range(steps):
            next(batches)
        seconds = time.perf_counter() - began
        row = {**memory(), "images_per_second": round(steps * _BATCH_SIZE.value / seconds)}
        print(f"epoch {epoch}: {row}", flush=True)
        result["epochs"].append(row)
    timing.save(result, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
