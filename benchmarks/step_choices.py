"""What each choice of speed is worth: a training step as it is, and with one choice undone at a time.

    python benchmarks/step_choices.py --output=docs/results/performance/choices.json

Run it while nothing else does. CIFAR-10's shapes, ResNet-20, batches of 128, a generator of 16 channels, ten attack
steps; random weights and pixels. Each line is measured in a process of its own, since some choices hold for a whole
process, and is compared with the line it changes: mixed precision for most, float32 where bfloat16 cannot be had.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from unittest import mock

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from absl import app, flags

_OUTPUT = flags.DEFINE_string("output", "", "where to write the JSON; empty: only print")
_STEPS = flags.DEFINE_integer("steps", 6, "timed repetitions of each", lower_bound=1)
_CHOICE = flags.DEFINE_string("choice", "", "only measure this line")

MIXED, FLOAT32 = "mixed precision (the preset)", "float32"


@dataclasses.dataclass(frozen=True)
class Choice:
    """One line: what it is compared with, and what it changes."""

    beside: str = MIXED
    mixed: bool = True
    environment: tuple[tuple[str, str], ...] = ()
    xla: bool = False
    folded: bool = True
    fused: bool = True
    shared: bool = True
    transposed: bool = True
    optimizer: str = "muon"
    through_fit: int = 0  # steps an execution of Keras's fit; 0: the step is called directly


CHOICES = {
    MIXED: Choice(),
    FLOAT32: Choice(mixed=False),
    "compiled by XLA": Choice(FLOAT32, mixed=False, xla=True),
    "without oneDNN": Choice(FLOAT32, mixed=False, environment=(("TF_ENABLE_ONEDNN_OPTS", "0"),)),
    "the classifier's batch normalisation not folded": Choice(folded=False),
    "the generator's batch normalisation by Keras": Choice(fused=False),
    "another pass over the generated images for the discriminator": Choice(shared=False),
    "the generator's upsampled maps made and concatenated before they are convolved": Choice(transposed=False),
    "Adam for the generator's kernels": Choice(optimizer="adam"),
    "one thread within an operation": Choice(environment=(("TF_NUM_INTRAOP_THREADS", "1"),)),
    "one thread between operations": Choice(environment=(("TF_NUM_INTEROP_THREADS", "1"),)),
    "by Keras's fit, a step an execution": Choice(through_fit=1),
    "by Keras's fit, ten steps an execution": Choice(through_fit=10),
}


def measured(choice: Choice) -> dict[str, float]:
    """Returns the median seconds of a step of each stage."""
    import timing  # isort: skip (before TensorFlow: the package sets oneDNN)
    import keras
    import numpy as np
    import tensorflow as tf

    from aigan_tf.build import build_aigan
    from aigan_tf.classifiers import architectures
    from aigan_tf.config import make_config
    from aigan_tf.data.datasets import ImageDataset
    from aigan_tf.data.splits import Split
    from aigan_tf.engine.normalization import FusedBatchNormalization
    from aigan_tf.engine.precision import MixedPrecision
    from aigan_tf.method import losses
    from aigan_tf.method.aigan import AIGAN
    from aigan_tf.method.networks import UpsampledConvolution
    from aigan_tf.method.threat_model import apply_perturbation

    class Apart(AIGAN):
        """Each network in a pass of its own, as GANs are usually trained."""

        def train_step(self, data):
            images, labels = data
            seeds = tf.random.split(tf.stack([np.int64(self.seed), self.generator_optimizer.iterations.value]))
            classes, epsilons = self.choose_targets(labels, seeds[0]), self.max_epsilons(images)
            real_images = tf.cond(
                tf.equal(self.stage_variable, 1),
                lambda: self.attacker(self.classifier, images, classes, epsilon=epsilons, seed=seeds[1]),
                lambda: images,
            )
            with tf.GradientTape() as tape:
                perturbations = self.perturb(images, classes, epsilons, training=True)
                adversarial_images = apply_perturbation(images, perturbations, epsilons, training=True)
                logits = self.classifier(adversarial_images)
                fake_logits = self.discriminator(adversarial_images, training=True)
                found = self.generator_losses(logits, classes, fake_logits, perturbations, epsilons)
            weights = self.generator.trainable_variables
            self.generator_optimizer.apply(tape.gradient(found["generator_loss"], weights), weights)
            with tf.GradientTape() as tape:
                real_logits = self.discriminator(real_images, training=True)
                fake_logits = self.discriminator(tf.stop_gradient(adversarial_images), training=True)
                found["discriminator_loss"] = losses.discriminator_loss(real_logits, fake_logits)
            weights = self.discriminator.trainable_variables
            self.discriminator_optimizer.apply(tape.gradient(found["discriminator_loss"], weights), weights)
            return self.update_metrics(found, images, adversarial_images, perturbations, epsilons, logits, classes)

    def upsampled_first(layer, features, skip):
        large = tf.concat([keras.layers.UpSampling2D(2)(features), skip], axis=-1)
        return tf.nn.conv2d(large, layer.kernel, 1, "SAME")

    config = make_config(
        dataset="cifar10", classifier="resnet20", generator_width=16, attack_steps=10, optimizer=choice.optimizer
    )
    random = np.random.default_rng(0)
    split = Split(
        random.integers(0, 256, (128, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, 128, dtype=np.int32)
    )
    dataset = ImageDataset("random", tuple("0123456789"), split, split, split)
    keras.utils.set_random_seed(0)
    classifier = architectures.build("resnet20", dataset.image_shape, 10)
    aigan = build_aigan(
        config, dataset, architectures.frozen(classifier) if choice.folded else classifier, 10_000,
        AIGAN if choice.shared else Apart,
    )  # fmt: skip
    batch = tf.constant(split.as_float()), tf.constant(split.labels)
    step = tf.function(aigan.train_step, jit_compile=choice.xla)

    def directly():
        return timing.median_seconds(lambda: step(batch)["generator_loss"].numpy(), _STEPS.value)

    def through_fit():
        ends = []
        at_end = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
        aigan.steps_per_execution = choice.through_fit
        batches = tf.data.Dataset.from_tensors(batch).repeat()
        steps = choice.through_fit * (_STEPS.value + 2)  # the first execution makes the graph
        aigan.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[at_end])
        return float(np.median(np.diff(ends)[1:])) / choice.through_fit

    seconds = {}
    with contextlib.ExitStack() as undone:
        if not choice.fused:
            plain = keras.layers.BatchNormalization.call
            undone.enter_context(mock.patch.object(FusedBatchNormalization, "call", plain))
        if not choice.transposed:
            undone.enter_context(mock.patch.object(UpsampledConvolution, "call", upsampled_first))
        undone.enter_context(MixedPrecision(choice.mixed, (aigan.generator, aigan.discriminator)))
        for stage in (2, 1):
            aigan.stage = stage
            seconds[f"stage {stage} step"] = through_fit() if choice.through_fit else directly()
    return seconds


def main(_):
    if _CHOICE.value:
        print(json.dumps(measured(CHOICES[_CHOICE.value])))
        return
    import page_tables
    import timing

    results = {}
    for name, choice in CHOICES.items():
        command = [sys.executable, __file__, f"--choice={name}", f"--steps={_STEPS.value}"]
        ran = subprocess.run(
            command, env=os.environ | dict(choice.environment), stdout=subprocess.PIPE, text=True, check=True
        )
        results[name] = {"beside": choice.beside, "seconds": json.loads(ran.stdout.splitlines()[-1])}
        print(name, results[name]["seconds"], flush=True)
    print(page_tables.choices(results))
    timing.save({"choices": results}, _OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
