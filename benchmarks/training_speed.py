"""Times a training step of each stage, its parts, and the convolutions it cannot do without.

    python benchmarks/training_speed.py --output=docs/results/performance/training.json

Run it while nothing else does. CIFAR-10's shapes, ResNet-20, batches of 128, a generator of 0.44 million parameters;
weights and pixels are random, which does not change the time. Every number is the median after a warm-up, blocked on the
result, in float32 and as `--mixed_precision` trains, each in a process of its own: what another one left in memory costs a
step up to a tenth.

The floor: every convolution of the step, forward and backward, and nothing else, in one graph, in the step's precision
from the start, with the best of several thread settings (each tried in a process of its own).
"""

import dataclasses
import itertools
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
import keras
import tensorflow as tf
from absl import app, flags
from convolutions import Convolution, convolutions_of
from peak_memory import tensors_mib
from random_data import random_split

from aigan_tf.build import build_aigan
from aigan_tf.classifiers import architectures
from aigan_tf.config import make_config
from aigan_tf.data.batches import training_batches
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.precision import MixedPrecision
from tools.markdown import table

PRECISIONS = {"float32": False, "mixed precision": True}

_OUTPUT = flags.DEFINE_string("output", "", "file for the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("steps", 10, "timed repetitions of each", lower_bound=1)
_ONLY = flags.DEFINE_enum(
    "only",
    "",
    ["", "floor", *PRECISIONS],
    "only time the convolutions alone, with the environment's threads, or a step",
)

STAGE_1, STAGE_2 = "stage 1 step", "stage 2 step"
GOALS = {STAGE_2: 0.2, STAGE_1: 0.9}  # seconds, on two cores
FLOOR_GOAL = 1.3  # times the convolutions alone
THREADS = ((1, 2), (2, 1), (2, 2))  # within an operation, between operations


def passes_of(aigan, images, attack_steps: int) -> dict[str, list[tuple[Convolution, str]]]:
    """Returns what a step of each stage computes of which convolution: forward, kernel or input (the gradient by it)."""
    networks = {}
    for name, run in (
        ("generator", lambda: aigan.generator(images, tf.zeros(len(images), tf.int32))),
        ("classifier", lambda: aigan.classifier(images)),
        ("discriminator", lambda: aigan.discriminator(images)),
    ):
        networks[name] = convolutions_of(run)

    def passes(name, *kinds, image_gradient=False):
        return [
            (convolution, kind)
            for convolution in networks[name]
            for kind in kinds
            if kind != "input" or not convolution.first or image_gradient
        ]

    classifier = passes("classifier", "forward", "input", image_gradient=True)
    stage_2 = [
        *passes("generator", "forward", "kernel", "input"),
        *classifier,
        *passes("discriminator", "forward", "kernel", "input"),  # real images
        *passes("discriminator", "forward", "kernel", "input"),  # generated images, D's loss
        *passes("discriminator", "input", image_gradient=True),  # G's loss
    ]
    return {STAGE_2: stage_2, STAGE_1: stage_2 + attack_steps * classifier}


def floor(passes, dtype) -> float:
    """Returns the median time of these passes and nothing else, in one graph."""

    def variable(shape):
        return tf.Variable(tf.cast(tf.random.normal(shape), dtype))

    distinct = {convolution for convolution, _ in passes}
    tensors = {c: (variable(c.inputs), variable(c.kernel), variable(c.outputs)) for c in distinct}

    @tf.function
    def run():
        seen = []
        for convolution, kind in passes:
            inputs, kernel, outputs = tensors[convolution]
            settings = dict(strides=convolution.strides, padding=convolution.padding)
            if seen:
                # One after another, as in a step; the sum also keeps equal passes from being computed once.
                with tf.control_dependencies([seen[-1]]):
                    inputs, kernel, outputs = (tf.identity(tensor) for tensor in (inputs, kernel, outputs))
            if kind == "forward":
                made = tf.nn.conv2d(inputs, kernel, **settings)
            elif kind == "kernel":
                strides = [1, convolution.strides, convolution.strides, 1]
                made = tf.raw_ops.Conv2DBackpropFilter(
                    input=inputs, filter_sizes=convolution.kernel, out_backprop=outputs, strides=strides,
                    padding=convolution.padding,
                )  # fmt: skip
            else:
                made = tf.nn.conv2d_transpose(outputs, kernel, convolution.inputs, **settings)
            seen.append(tf.reshape(made, [-1])[0])
        return tf.add_n(seen)

    return timing.median_seconds(lambda: run().numpy(), _STEPS.value)


def only(what: str, environment: dict[str, str] | None = None):
    """Returns what this script prints with `--only`."""
    return timing.in_its_own_process(f"--only={what}", f"--steps={_STEPS.value}", environment=environment)


def best_floor() -> dict:
    """Returns the floors of each stage and precision at the thread setting that is best for each."""
    best = {}
    for within, between in THREADS:
        threads = {"TF_NUM_INTRAOP_THREADS": str(within), "TF_NUM_INTEROP_THREADS": str(between)}
        for name, seconds in only("floor", threads).items():
            if name not in best or seconds < best[name]["seconds"]:
                best[name] = {"seconds": seconds, "threads": [within, between]}
    return best


def touched(gradients) -> tf.Tensor:
    """Returns a number that depends on all gradients: a graph leaves out what nothing depends on."""
    return tf.add_n([tf.reshape(tf.convert_to_tensor(gradient), [-1])[0] for gradient in gradients])


def measured_parts(aigan, batch, attack_steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the median times of a step's parts, forward and backward, and of the steps; and their peak memory in MiB."""
    images, labels = batch
    targets = aigan.choose_targets(labels)
    epsilons = aigan.max_epsilons(images)

    @tf.function
    def generator():
        with tf.GradientTape() as tape:
            perturbations, _ = aigan.perturb(images, targets, epsilons, training=True)
            made = tf.reduce_sum(perturbations)
        return touched(tape.gradient(made, aigan.generator.trainable_variables))

    @tf.function
    def discriminator():
        with tf.GradientTape() as tape:
            logits = aigan.discriminator(images, training=True) - aigan.discriminator(1.0 - images, training=True)
            loss = tf.reduce_sum(logits)
        return touched(tape.gradient(loss, aigan.discriminator.trainable_variables))

    @tf.function
    def classifier():
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = tf.reduce_logsumexp(aigan.classifier(images))
        return tape.gradient(loss, images)

    @tf.function
    def attacker():
        return aigan.attacker(aigan.classifier, images, targets, epsilon=epsilons, seed=(0, 1))

    parts = {
        "generator": generator,
        "discriminator, two batches": discriminator,
        "classifier": classifier,
        f"attacker, {attack_steps} steps": attacker,
    }
    seconds, peaks = {}, {}

    def measure(name, run):
        seconds[name] = timing.median_seconds(lambda: run().numpy(), _STEPS.value)
        peaks[name] = tensors_mib(lambda: run().numpy())

    step = tf.function(aigan.train_step)
    for stage, name in ((2, STAGE_2), (1, STAGE_1)):  # first, as in training: nothing else has been in memory
        aigan.stage = stage
        measure(name, lambda: step(batch)["generator_loss"])
    for name, run in parts.items():
        measure(name, run)
    return seconds, peaks


def printed(result) -> str:
    """Returns times and goals as text."""
    seconds, floors = result["seconds"], result["floor"]
    rows = [(part, *(f"{times[part] * 1000:.1f}" for times in seconds.values())) for part in seconds["float32"]]
    rows += [("input, one batch", *2 * [f"{result['input_seconds'] * 1000:.1f}"])]
    rows += [
        (f"{stage}: convolutions alone", *(f"{floors[f'{stage}, {name}']['seconds'] * 1000:.1f}" for name in seconds))
        for stage in GOALS
    ]
    rows += [
        (f"{stage}: times its convolutions", *(f"{ratios[stage]:.2f}" for ratios in result["times_the_floor"].values()))
        for stage in GOALS
    ]
    goals = ", ".join(f"{stage} {1000 * goal:.0f} ms" for stage, goal in GOALS.items())
    return f"{table(('ms', *seconds), rows)}\ngoals: {goals}; {FLOOR_GOAL} times its convolutions"


def compared(seconds, floors, passes, input_seconds) -> dict:
    """Returns the ratios of a result: of the steps to their convolutions, and of the input to a step."""
    return {
        "times_the_floor": {
            name: {stage: times[stage] / floors[f"{stage}, {name}"]["seconds"] for stage in passes}
            for name, times in seconds.items()
        },
        "floor_gflops_a_second": {
            name: {
                stage: sum(c.flops for c, _ in todo) / floors[f"{stage}, {name}"]["seconds"] / 1e9
                for stage, todo in passes.items()
            }
            for name in seconds
        },
        "input_seconds": input_seconds,
        "input_share_of_stage_2_step": {name: input_seconds / times[STAGE_2] for name, times in seconds.items()},
    }


def main(_):
    # The generator that the goals are about, of about 0.4 million parameters.
    config = make_config(dataset="cifar10", classifier="resnet20", attack_steps=10, generator_width=16)
    train = random_split(48_000)
    dataset = ImageDataset("random", tuple("0123456789"), train, random_split(10), random_split(10))
    keras.utils.set_random_seed(0)
    classifier = architectures.frozen(architectures.build("resnet20", dataset.image_shape, 10))
    batches = iter(training_batches(train, config.batch_size, 0, flip=config.flip))
    batch = next(batches)
    passes = passes_of(build_aigan(config, dataset, classifier, 1), batch[0], config.attack_steps)
    if _ONLY.value == "floor":
        dtypes = {"float32": tf.float32, "mixed precision": tf.bfloat16}
        pairs = itertools.product(passes.items(), dtypes.items())
        print(json.dumps({f"{stage}, {name}": floor(todo, dtype) for (stage, todo), (name, dtype) in pairs}))
        return
    if _ONLY.value:
        mixed = PRECISIONS[_ONLY.value]
        aigan = build_aigan(dataclasses.replace(config, mixed_precision=mixed), dataset, classifier, 10_000)
        with MixedPrecision(mixed, (aigan.generator, aigan.discriminator)):
            print(json.dumps(measured_parts(aigan, batch, config.attack_steps)))
        return
    floors = best_floor()
    seconds, peaks = {}, {}
    for name in PRECISIONS:
        seconds[name], peaks[name] = only(name)
    input_seconds = timing.median_seconds(lambda: next(batches)[0].numpy(), 50)
    result = {
        "batch_size": config.batch_size,
        "generator_parameters": build_aigan(config, dataset, classifier, 1).generator.count_params(),
        "seconds": seconds,
        "peak_mib": peaks,
        "goals": GOALS,
        "floor": floors,
        "floor_goal": FLOOR_GOAL,
        **compared(seconds, floors, passes, input_seconds),
    }
    print(printed(result))
    timing.save(result, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
