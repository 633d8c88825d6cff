"""Ablation: what each part of the method is worth, as a table. Each row has the same budget and one change.

    python benchmarks/ablation.py --classifier=runs/cifar10/classifier.keras --output=docs/results/ablation.json

Each row trains a generator from the same initial weights, by the preset of CIFAR-10 or of `--dataset`
(`--generator_width=16` if that takes too long). It is measured after stage 1 and at the end, on the validation images
that the classifier gets right, towards all other classes, after rounding to 8 bits. The base row takes `--stage1_steps`
and `--stage2_steps`. A row without one of the stages gets as many steps of the other as fit into the base row's time,
by step times measured first; one row keeps the attacker for as many steps as the base row has. Rows with other batch
sizes see as many images. Rows already in the output with the same settings are kept, so that an interrupted study
continues; `--rows` selects some. What train.py has no setting for (a tanh, Adam throughout) is built here.
"""

import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from aigan_tf.build import build_aigan, objective
from aigan_tf.classifiers import architectures
from aigan_tf.config import make_config
from aigan_tf.data.batches import training_batches
from aigan_tf.data.datasets import load
from aigan_tf.engine.precision import MixedPrecision, with_loss_scaling
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attack
from aigan_tf.files import write_bytes, write_json
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.networks import Generator
from aigan_tf.provenance import device_name
from tools.markdown import table

_CLASSIFIER = flags.DEFINE_string("classifier", "runs/cifar10/classifier.keras", "the classifier under attack")
_DATASET = flags.DEFINE_string("dataset", "cifar10", "data set, whose preset is the base row")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
_OUTPUT = flags.DEFINE_string("output", "ablation.json", "file for the JSON; the table goes beside it, as .md")
_STAGE1_STEPS = flags.DEFINE_integer("stage1_steps", 100, "stage-1 steps of the base row", lower_bound=1)
_STAGE2_STEPS = flags.DEFINE_integer("stage2_steps", 700, "stage-2 steps of the base row", lower_bound=1)
_WIDTH = flags.DEFINE_integer(
    "generator_width", None, "channels of the generator at full size; default: the preset's", lower_bound=1
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "decides every random choice; another one shows what chance does", lower_bound=0
)
_ROWS = flags.DEFINE_list("rows", [], "names of the rows to run, by comma; empty: all")


# What the JSON keeps of the base settings.
_TUNED = (
    "gan_weight", "hinge_weight", "hinge_threshold", "attack_steps", "attack_step_size", "batch_size", "learning_rate",
    "discriminator_learning_rate", "mixed_precision", "flip", "max_shift", "generator_width", "generator_blocks", "class_maps", "discriminator_width",
)  # fmt: skip


class MarginAIGAN(AIGAN):
    """L_adv is the margin by which the best other logit leads the target's, as in Carlini and Wagner's attack."""

    def generator_loss(self, attack):
        loss = super().generator_loss(attack)
        is_target = tf.one_hot(attack.targets, self.num_classes, on_value=True, off_value=False, dtype=tf.bool)
        target = tf.reduce_sum(tf.where(is_target, attack.logits, 0.0), axis=-1)
        others = tf.reduce_max(tf.where(is_target, attack.logits.dtype.min, attack.logits), axis=-1)
        margin = tf.reduce_mean(tf.nn.relu(others - target + 1.0))  # 1: a success must survive rounding to 8 bits
        return loss._replace(total=loss.total - loss.adversarial + margin, adversarial=margin)


class TanhAIGAN(AIGAN):
    """A tanh keeps the generator's output within its budget, so that the projection has nothing left to do."""

    def __init__(self, generator, *arguments):
        generator.head.activation = keras.activations.tanh
        super().__init__(generator, *arguments)


class InputConditioned(keras.Model):
    """A `Generator` that gets the class as one-hot maps beside the image's channels, and nowhere else."""

    def __init__(self, num_classes, channels, **settings):
        super().__init__()
        self.num_classes = num_classes
        self.inner = Generator(1, channels + num_classes, **settings | {"class_maps": 0})
        self.built = True  # the inner one makes its variables at once

    def call(self, images, targets, budgets=None, training=None):
        maps = tf.one_hot(targets, self.num_classes)[:, tf.newaxis, tf.newaxis, :]
        maps = tf.broadcast_to(maps, (*tf.unstack(tf.shape(images)[:3]), self.num_classes))
        inputs = tf.concat([images, maps], axis=-1)
        return self.inner(inputs, tf.zeros_like(targets), budgets, training=training)[..., : images.shape[-1]]


def _another_generator(make: Callable[..., keras.Model]) -> type[AIGAN]:
    """Returns an AIGAN that exchanges its generator for one of the same settings."""

    class Other(AIGAN):
        def __init__(self, generator, *arguments):
            super().__init__(make(**generator.settings), *arguments)

    return Other


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: what differs from the base.

    Args:
        changes: settings.
        model: the class that is trained.
        stages: the stages that are run.
        equal_steps: whether a stage that is left out leaves the other its steps, rather than its time.
        adam: whether the generator's kernels learn by Adam too, in place of Muon.
    """

    changes: dict = dataclasses.field(default_factory=dict)
    model: type[AIGAN] = AIGAN
    stages: tuple[int, ...] = (1, 2)
    equal_steps: bool = False
    adam: bool = False


ROWS = {
    "base": Row(),
    "no stage 1 (equal time)": Row(stages=(2,)),
    "no stage 2 (equal time)": Row(stages=(1,)),
    "the attacker stays (equal steps)": Row(stages=(1,), equal_steps=True),
    "no discriminator": Row(dict(gan_weight=0.0)),
    "no hinge": Row(dict(hinge_weight=0.0)),
    "neither discriminator nor hinge": Row(dict(gan_weight=0.0, hinge_weight=0.0)),
    "GAN weight 0.2": Row(dict(gan_weight=0.2)),
    "all weights 1": Row(dict(gan_weight=1.0, hinge_weight=1.0)),
    "class at the input only": Row(model=_another_generator(InputConditioned)),
    "no class maps": Row(dict(class_maps=0)),
    "class maps of 8 channels": Row(dict(class_maps=8)),
    "class maps of 16 channels": Row(dict(class_maps=16)),
    "class embedding of 256": Row(
        model=_another_generator(lambda **settings: Generator(**settings | {"embedding_dim": 256}))
    ),
    "margin loss": Row(model=MarginAIGAN),
    "1 attack step": Row(dict(attack_steps=1)),
    "10 attack steps": Row(dict(attack_steps=10)),
    "batches of 32": Row(dict(batch_size=32)),
    "batches of 64": Row(dict(batch_size=64)),
    "batches of 128": Row(dict(batch_size=128)),
    "learning rate 5e-3": Row(dict(learning_rate=5e-3)),
    "learning rate 2e-2": Row(dict(learning_rate=2e-2)),
    "width 16": Row(dict(generator_width=16)),
    "width 32": Row(dict(generator_width=32)),
    "2 residual blocks": Row(dict(generator_blocks=2)),
    "8 residual blocks": Row(dict(generator_blocks=8)),
    "discriminator width 32": Row(dict(discriminator_width=32)),
    "tanh bound": Row(model=TanhAIGAN),
    "Adam throughout": Row(dict(learning_rate=5e-3), adam=True),  # half of Muon's rate, which suits it better
    "float32": Row(dict(mixed_precision=False)),
}


def step_seconds(config, dataset, classifier) -> dict[int, float]:
    """Returns the median time of a training step of each stage."""
    aigan = build_aigan(config, dataset, classifier, 1)
    batch = next(
        iter(training_batches(dataset.train, config.batch_size, 0, max_shift=config.max_shift, flip=config.flip))
    )
    step = tf.function(aigan.train_step)
    seconds = {}
    with MixedPrecision(config.mixed_precision):
        for stage in (1, 2):
            aigan.stage = stage
            times = []
            for _ in range(6):
                began = time.perf_counter()
                step(batch)["generator_loss"].numpy()
                times.append(time.perf_counter() - began)
            seconds[stage] = float(np.median(times[1:]))
    return seconds


def steps_of(row: Row, config, seconds: dict[int, float]) -> dict[int, int]:
    """Returns the steps of each stage; what a stage that is left out would take goes to the other."""
    images = config.batch_size / row.changes.get("batch_size", config.batch_size)
    steps = {1: round(_STAGE1_STEPS.value * images), 2: round(_STAGE2_STEPS.value * images)}
    if row.stages == (1, 2):
        return steps
    (kept,) = row.stages
    if row.equal_steps:
        return {kept: sum(steps.values())}
    return {kept: round(sum(steps[stage] * seconds[stage] for stage in steps) / seconds[kept])}


def build(row: Row, config, dataset, classifier, total_steps: int) -> AIGAN:
    """Returns the compiled model of a row, with fresh weights; `config` holds the row's changes."""
    aigan = build_aigan(config, dataset, classifier, total_steps, row.model)
    if row.adam:
        schedule = keras.optimizers.schedules.CosineDecay(config.learning_rate, total_steps)
        adam = keras.optimizers.Adam(schedule, beta_1=0.5)
        settings = objective(config, dataset, total_steps)
        settings["generator_optimizer"] = with_loss_scaling(adam) if config.mixed_precision else adam
        aigan.compile(attacker=aigan.attacker, **settings)
    return aigan


def run(row: Row, config, dataset, examples, seconds) -> dict:
    """Trains one row and returns what it reached."""
    steps = steps_of(row, config, seconds)
    config = dataclasses.replace(config, **row.changes)
    aigan = build(row, config, dataset, examples.classifier, sum(steps.values()))
    result = {"parameters": aigan.generator.count_params(), "stages": []}
    done = 0
    for stage, count in steps.items():
        aigan.stage = stage
        began = time.perf_counter()
        batches = training_batches(
            dataset.train, config.batch_size, config.seed, first_step=done, max_shift=config.max_shift, flip=config.flip
        )
        with MixedPrecision(config.mixed_precision):
            history = aigan.fit(batches, steps_per_epoch=count, shuffle=False, verbose=0).history
        done += count
        spent = time.perf_counter() - began
        attack = tf.function(aigan.call, reduce_retracing=True)
        measured = measure_attack(attack, examples, config.epsilon, config.targeted, config.seed)
        kept = ("num_attacks", "success_rate", "worst_target_success_rate", "mean_l2", "clean_accuracy")
        result["stages"].append(
            {"stage": stage, "steps": count, "seconds": round(spent, 1)}
            | {name: getattr(measured, name) for name in kept}
            | {"hinge_active": history["hinge_active"][-1]}
        )
    return result


def study_table(results: dict) -> str:
    """Returns the study as a Markdown table, best first."""
    columns = ("change", "success", "worst target", "mean L2", "after stage 1: success, L2", "steps 1 + 2", "seconds")
    rows = []
    for name, row in sorted(results.items(), key=lambda item: -item[1]["stages"][-1]["success_rate"]):
        first, last = row["stages"][0], row["stages"][-1]
        steps = {stage["stage"]: stage["steps"] for stage in row["stages"]}
        rows.append(
            (
                name,
                f"{last['success_rate']:.1%}",
                f"{last['worst_target_success_rate']:.1%}",
                f"{last['mean_l2']:.2f}",
                f"{first['success_rate']:.1%}, {first['mean_l2']:.2f}" if len(row["stages"]) == 2 else "-",
                f"{steps.get(1, 0)} + {steps.get(2, 0)}",
                f"{sum(stage['seconds'] for stage in row['stages']):.0f}",
            )
        )
    return table(columns, rows)


def read_study(output: pathlib.Path, settings: dict) -> dict:
    """Returns the study in `output`, or an empty one."""
    if not output.exists():
        return {"settings": settings, "step_seconds": {}, "rows": {}}
    study = json.loads(output.read_text())
    if study["settings"] != settings:
        sys.exit(f"error: {output} holds a study with other settings: expected the same; choose another --output")
    return study


def main(_):
    unknown = set(_ROWS.value) - set(ROWS)
    if unknown:
        sys.exit(f"error: --rows has {min(unknown)!r}: expected some of {', '.join(ROWS)}; correct it")
    dataset = load(_DATASET.value, _DATA_DIR.value)
    classifier = architectures.frozen(keras.models.load_model(_CLASSIFIER.value, compile=False))
    validation = dataset.validation
    examples = EvaluationSet(
        classifier, validation.as_float(), validation.labels, dataset.class_names, split="validation"
    )
    config = make_config(dataset=_DATASET.value)
    config = dataclasses.replace(config, seed=_SEED.value)
    if _WIDTH.value:
        config = dataclasses.replace(config, generator_width=_WIDTH.value)
    settings = {
        "dataset": _DATASET.value,
        "device": device_name(),
        "classifier": pathlib.Path(_CLASSIFIER.value).parent.name,
        "validation_accuracy": float(examples.correct.mean()),
        "seed": config.seed,
        "epsilon": config.epsilon,
        "stage1_steps": _STAGE1_STEPS.value,
        "stage2_steps": _STAGE2_STEPS.value,
        "base": {name: value for name, value in dataclasses.asdict(config).items() if name in _TUNED},
    }
    output = pathlib.Path(_OUTPUT.value)
    study = read_study(output, settings)
    if not study["step_seconds"]:
        study["step_seconds"] = step_seconds(config, dataset, classifier)
    seconds = {int(stage): value for stage, value in study["step_seconds"].items()}
    for name in _ROWS.value or ROWS:
        changes = ROWS[name].changes
        if name in study["rows"] or (changes and dataclasses.replace(config, **changes) == config):
            continue  # measured before, or what the data set's preset has anyway
        study["rows"][name] = run(ROWS[name], config, dataset, examples, seconds)
        write_json(output, study)
        write_bytes(output.with_suffix(".md"), study_table(study["rows"]).encode())
        print(name, json.dumps(study["rows"][name]["stages"][-1]), flush=True)
    print(study_table(study["rows"]))


if __name__ == "__main__":
    app.run(main)
