"""What a training step costs in time and memory against image size, classes, batch size and attack steps.

    python benchmarks/scaling.py --output=docs/results/performance/scaling.json

Run it while nothing else does. A ResNet-20, a generator of 16 channels, float32, random pixels. One thing changes at a
time from the first line's 32 x 32 pixels, 10 classes, batch of 16 and 3 attack steps; each point is measured in a process of
its own, whose peak memory is that of both stages' steps and of generating.
"""

import json
import pathlib
import resource
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags

_OUTPUT = flags.DEFINE_string("output", "", "where to write the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("steps", 5, "timed repetitions of each", lower_bound=1)
_POINT = flags.DEFINE_string("point", "", "only measure this point, given as JSON")

BASE = {"image_side": 32, "classes": 10, "batch_size": 16, "attack_steps": 3}
VALUES = {
    "image_side": (8, 16, 64, 128, 224),
    "classes": (100, 1000),
    "batch_size": (1, 64, 128, 256),
    "attack_steps": (1, 10, 20),
}


def measured(point: dict) -> dict:
    """Returns seconds of a step of each stage and of generating a batch, and the process's peak memory in MiB."""
    import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
    import keras
    import numpy as np
    import tensorflow as tf

    from aigan_tf.build import build_aigan
    from aigan_tf.classifiers import architectures
    from aigan_tf.config import make_config
    from aigan_tf.data.datasets import ImageDataset
    from aigan_tf.data.splits import Split

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    side, classes, batch_size = point["image_side"], point["classes"], point["batch_size"]
    random = np.random.default_rng(0)
    split = Split(
        random.integers(0, 256, (batch_size, side, side, 3), dtype=np.uint8),
        random.integers(0, classes, batch_size, dtype=np.int32),
    )
    dataset = ImageDataset("random", tuple(map(str, range(classes))), split, split, split)
    config = make_config(
        dataset="random", classifier="resnet20", attack_steps=point["attack_steps"], batch_size=batch_size
    )
    keras.utils.set_random_seed(0)
    classifier = architectures.frozen(architectures.build("resnet20", dataset.image_shape, classes))
    aigan = build_aigan(config, dataset, classifier, 1000)
    batch = tf.constant(split.as_float()), tf.constant(split.labels)
    at_start = peak()
    generate, step = tf.function(aigan.call), tf.function(aigan.train_step)
    seconds = {"generate": timing.median_seconds(lambda: generate(*batch).numpy(), _STEPS.value)}
    for stage in (2, 1):
        aigan.stage = stage
        seconds[f"stage {stage} step"] = timing.median_seconds(
            lambda: step(batch)["generator_loss"].numpy(), _STEPS.value
        )
    return {"seconds": seconds, "peak_mib": peak(), "peak_mib_before_the_first_step": at_start}


def main(_):
    if _POINT.value:
        print(json.dumps(measured(json.loads(_POINT.value))))
        return
    import page_tables
    import timing

    points = [BASE, *(BASE | {name: value} for name, values in VALUES.items() for value in values)]
    results, cells = [], []
    for point in points:
        command = [sys.executable, __file__, f"--point={json.dumps(point)}", f"--steps={_STEPS.value}"]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        result = json.loads(ran.stdout.splitlines()[-1])
        results.append({**point, **result})
        changed = ", ".join(f"{name.replace('_', ' ')} {point[name]}" for name in point if point[name] != BASE[name])
        per_image = [f"{1000 * seconds / point['batch_size']:.2f}" for seconds in result["seconds"].values()]
        cells.append((changed or "base", *per_image, f"{result['peak_mib']:.0f}"))
        print(*cells[-1], flush=True)
    print(
        page_tables.table(("changed", *(f"{name}, ms an image" for name in results[0]["seconds"]), "peak MiB"), cells)
    )
    timing.save({"base": BASE, "points": results}, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
