"""Ablation: what each part of the method is worth, as a table. Every row has the same time and one change.

    taskset -c 0 python benchmarks/ablation.py --classifier=pretrained/cifar10/classifier.keras --seeds=0,1,2

Each row trains a generator by the preset of CIFAR-10 or of `--dataset`, with its change, for `--seconds` of the
processor's time: as many steps as fit in, by the time of the row's own steps, measured first; rows with a stage 1 spend
`--stage1_share` of it there. One seed decides weights, batches and targets alike for all rows. It is measured on the
validation images that the classifier gets right, towards all other classes (ten drawn ones if there are more than
twenty), after rounding to 8 bits. What the output holds is not run again, so that an interrupted study continues; `--rows`
selects some. What train.py has no setting for is built here.
"""

import dataclasses
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
import keras
import tensorflow as tf
from absl import app, flags

from aigan_tf.build import build_aigan, map_sizes, objective
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.features import features_of
from aigan_tf.config import Config, make_config
from aigan_tf.data.batches import training_batches
from aigan_tf.data.datasets import ImageDataset, load
from aigan_tf.engine.optimizers import CosineDecay
from aigan_tf.engine.precision import MixedPrecision
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import measure_attack
from aigan_tf.files import write_bytes, write_json
from aigan_tf.method.aigan import AIGAN, GeneratorLoss
from aigan_tf.method.losses import adversarial_loss, gan_loss, hinge_loss
from aigan_tf.method.metrics import successes
from aigan_tf.method.networks import Discriminator, Generator
from aigan_tf.method.pgd import pgd_attack
from aigan_tf.provenance import device_name, processor_name
from tools.ablation import BASE, study_table
from tools.runs import RECIPE_0_1

_CLASSIFIER = flags.DEFINE_string("classifier", "pretrained/cifar10/classifier.keras", "the classifier under attack")
_DATASET = flags.DEFINE_string("dataset", "cifar10", "data set, whose preset is the base row")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
_OUTPUT = flags.DEFINE_string("output", "ablation.json", "file for the JSON; the table goes beside it, as .md")
_SECONDS = flags.DEFINE_float("seconds", 600, "training of one row, in seconds of the processor", lower_bound=1)
_STAGE1_SHARE = flags.DEFINE_float("stage1_share", 0.1, "of that time for stage 1, where a row has both stages", 0, 1)
_SEEDS = flags.DEFINE_list("seeds", ["0"], "seeds, by comma; the table has the mean of all that the output holds")
_ROWS = flags.DEFINE_list("rows", [], "names of the rows to run, by semicolon or comma; empty: all")


class Imitation(AIGAN):
    """Stage 1 is imitation: L has the squared distance to the attacker's images, and D sees clean ones from the start."""

    def compile(self, attacker, **settings):
        self.teacher = attacker
        super().compile(attacker=lambda classifier, images, targets, epsilon, seed: images, **settings)

    def generator_loss(self, attack):
        loss = super().generator_loss(attack)
        lesson = tf.cond(self.stage_variable == 1, lambda: self._distance(attack), lambda: 0.0)
        return loss._replace(total=loss.total + lesson)

    def _distance(self, attack):
        seed = self.step_seeds()[1]
        taught = self.teacher(self.classifier, attack.images, attack.targets, epsilon=attack.epsilons, seed=seed)
        return tf.reduce_mean(tf.square((attack.adversarial_images - taught) / self.epsilon))


class HeadStart(AIGAN):
    """Stage 1 trains one perturbation for each class and all images, without generator or attacker; then G adds to it."""

    def __init__(self, generator, discriminator, classifier, num_classes, *arguments):
        super().__init__(WithUniversal(generator), discriminator, classifier, num_classes, *arguments)
        self.generator.stage = self.stage_variable

    def compile(self, attacker, **settings):
        super().compile(attacker=lambda classifier, images, targets, epsilon, seed: images, **settings)


class WithUniversal(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        size = inner.settings["map_size"]
        shape = (inner.settings["num_classes"], size, size, inner.settings["channels"])
        self.universal = self.add_weight(shape=shape, initializer="zeros")
        self.built = True

    def call(self, images, targets, budgets=None, training=None):
        universal = tf.gather(self.universal, targets)
        return tf.cond(
            self.stage == 1,
            lambda: universal,
            lambda: universal + self.inner(images, targets, budgets, training=training),
        )


class OwnStart(AIGAN):
    """The attacker takes one step from the generator's own images, in place of several from noise."""

    def compile(self, attacker, **settings):
        def one_step(classifier, images, targets, epsilon, seed):
            start = self(images, targets, epsilon)
            return pgd_attack(
                classifier, images, targets, epsilon=epsilon, step_size=epsilon / 2, num_steps=1, start=start
            )

        super().compile(attacker=one_step, **settings)


class WhereItFails(AIGAN):
    """The attacker attacks where the generator fails; elsewhere D sees the generator's own images as real."""

    def compile(self, attacker, **settings):
        def where_it_fails(classifier, images, targets, epsilon, seed):
            own = self(images, targets, epsilon)
            failed = tf.where(~successes(classifier(own), targets, self.targeted))
            arguments = [tf.gather_nd(each, failed) for each in (images, targets)]
            attacked = attacker(classifier, *arguments, epsilon=tf.gather_nd(epsilon, failed), seed=seed)
            return tf.tensor_scatter_nd_update(own, failed, attacked)

        super().compile(attacker=where_it_fails, **settings)


class TargetAware(AIGAN):
    """D sees a learned map of the target class beside the image."""

    def __init__(self, generator, discriminator, classifier, num_classes, *arguments):
        aware = TargetAwareDiscriminator(num_classes, **discriminator.settings)
        super().__init__(generator, aware, classifier, num_classes, *arguments)

    def choose_targets(self, labels, seed=None):
        self.discriminator.targets = super().choose_targets(labels, seed)
        return self.discriminator.targets


class TargetAwareDiscriminator(keras.Model):
    def __init__(self, num_classes, channels, width):
        super().__init__()
        self.inner = Discriminator(channels + 1, width)
        self.maps = self.add_weight(shape=(num_classes, 32, 32, 1), name="maps")
        self.built = True
        self.targets = None

    def call(self, images, training=None):
        return self.inner(tf.concat([images, tf.gather(self.maps, self.targets)], axis=-1))


class ConstantWeights(AIGAN):
    """The terms' weights do not follow the success: L as the paper has it."""

    def generator_loss(self, attack):
        adversarial = adversarial_loss(attack.logits, attack.targets, self.targeted)
        gan = gan_loss(attack.fake_logits)
        hinge = hinge_loss(attack.perturbations, self.hinge_thresholds(attack.epsilons))
        total = adversarial + self.gan_weight * gan + self.hinge_weight * hinge
        return GeneratorLoss(total, adversarial, gan, hinge)


class ThreeTimesTheWeights(AIGAN):
    def compile(self, gan_weight, hinge_weight, **settings):
        super().compile(gan_weight=3 * gan_weight, hinge_weight=3 * hinge_weight, **settings)


class ProjectedDescent(AIGAN):
    """Beyond the bounds all of the gradient that points inwards passes, to the end."""

    def compile(self, leak, **settings):
        super().compile(**settings)


class Version01(ConstantWeights, ProjectedDescent):
    pass


class Tanh(AIGAN):
    """A tanh keeps the generator's output within its budget, so that the projection has nothing left to do."""

    def __init__(self, generator, *arguments):
        generator.head.activation = keras.activations.tanh
        super().__init__(generator, *arguments)


class ClassAtInput(AIGAN):
    """G gets the class as one-hot maps beside the image's channels, and nowhere else; it sees nothing of the classifier."""

    def __init__(self, generator, *arguments):
        super().__init__(InputConditioned(**generator.settings), *arguments)


class InputConditioned(keras.Model):
    def __init__(self, num_classes, channels, **settings):
        super().__init__()
        self.num_classes = num_classes
        self.inner = Generator(1, channels + num_classes, **settings | dict(class_maps=0, gain_maps=False))
        self.built = True  # the inner one makes its variables at once

    def call(self, images, targets, budgets=None, training=None):
        maps = tf.one_hot(targets, self.num_classes)[:, tf.newaxis, tf.newaxis, :]
        maps = tf.broadcast_to(maps, (*tf.unstack(tf.shape(images)[:3]), self.num_classes))
        inputs = tf.concat([images, maps], axis=-1)
        return self.inner(inputs, tf.zeros_like(targets), budgets, training=training)[..., : images.shape[-1]]


@dataclasses.dataclass(frozen=True)
class Row:
    """What differs from the base.

    Args:
        changes: settings.
        model: the class that is trained.
        stages: the stages that are run.
        adam: whether the generator's kernels learn by Adam too, in place of Muon.
    """

    changes: dict = dataclasses.field(default_factory=dict)
    model: type[AIGAN] = AIGAN
    stages: tuple[int, ...] = (1, 2)
    adam: bool = False

    def is_base(self, config: Config) -> bool:
        """Whether it has nothing but settings that the preset has too, as a row for another data set's preset may."""
        return (
            self.changes != {} and self == Row(self.changes) and dataclasses.replace(config, **self.changes) == config
        )


ROWS = {
    BASE: Row(),
    "the preset of version 0.1": Row(RECIPE_0_1, Version01),
    # Stage 1
    "no stage 1": Row(stages=(2,)),
    "stage 1 to the end": Row(stages=(1,)),
    "stage 1: imitation": Row(model=Imitation),
    "stage 1: universal perturbations": Row(model=HeadStart),
    "stage 1: one step from G's images": Row(model=OwnStart),
    "stage 1: the attacker where G fails": Row(model=WhereItFails),
    "D sees the target": Row(model=TargetAware),
    # The objective
    "no discriminator": Row(dict(gan_weight=0.0)),
    "no hinge": Row(dict(hinge_weight=0.0)),
    "constant weights": Row(model=ConstantWeights),
    "constant weights of 1": Row(dict(gan_weight=1.0, hinge_weight=1.0), ConstantWeights),
    "three times the weights": Row(model=ThreeTimesTheWeights),
    "uniform targets": Row(dict(hard_targets=False)),
    # The generator
    "class at the input only": Row(model=ClassAtInput),
    "no class maps": Row(dict(class_maps=0)),
    "no classifier features": Row(dict(classifier_features=False)),
    "gain maps": Row(dict(gain_maps=True)),
    "one residual block": Row(dict(generator_blocks=1)),
    "16 channels": Row(dict(generator_width=16)),
    "48 channels": Row(dict(generator_width=48)),
    "tanh for the projection": Row(model=Tanh),
    "projected descent's gradient": Row(model=ProjectedDescent),
    # How it learns
    "images not shifted": Row(dict(max_shift=0)),
    "twice epsilon at first": Row(dict(epsilon_start=2.0)),
    "batches of 64": Row(dict(batch_size=64, learning_rate=7e-3)),
    "Adam throughout": Row(dict(learning_rate=5e-3), adam=True),  # half of Muon's rate, which suits it better
}


class Study:
    """Trains and measures rows against one classifier.

    Args:
        dataset: has a validation split.
        examples: what is attacked.
        seconds, stage1_share: of each row's training.
        features: what the generator sees of the classifier, in rows where it does.
    """

    def __init__(
        self, dataset: ImageDataset, examples: EvaluationSet, seconds: float, stage1_share: float, features: keras.Model
    ):
        self.dataset = dataset
        self.examples = examples
        self.seconds = seconds
        self.stage1_share = stage1_share
        self.features = features

    def build(self, row: Row, config: Config, total_steps: int) -> AIGAN:
        """Returns the compiled model of a row, with fresh weights; `config` holds the row's changes."""
        aigan = build_aigan(
            config, self.dataset, self.examples.classifier, total_steps, row.model, features=self.features
        )
        if row.adam:
            settings = objective(config, self.dataset, total_steps)
            schedule = CosineDecay(config.learning_rate, total_steps)
            aigan.compile(
                attacker=aigan.attacker,
                hard_targets=aigan.hard_targets,
                target_classes=aigan.target_classes,
                **settings | dict(generator_optimizer=keras.optimizers.Adam(schedule, beta_1=0.5)),
            )
        return aigan

    def batches(self, config: Config, first_step: int = 0) -> tf.data.Dataset:
        return training_batches(
            self.dataset.train, config.batch_size, config.seed, first_step, config.max_shift, config.flip
        )

    def steps(self, row: Row, config: Config) -> dict[int, int]:
        """Returns how many steps of each of the row's stages fit into the time."""
        aigan, batches, steps = self.build(row, config, 1), iter(self.batches(config)), {}
        shares = {1: self.stage1_share, 2: 1 - self.stage1_share} if len(row.stages) == 2 else {row.stages[0]: 1.0}
        with precision(config, aigan):
            aigan.make_train_function()
            for stage, share in shares.items():
                aigan.stage = stage
                times = []
                for _ in range(8):
                    began = time.process_time()
                    float(aigan.train_function(batches)["generator_loss"])  # waits for the step
                    times.append(time.process_time() - began)
                steps[stage] = max(round(share * self.seconds / statistics.median(times[2:])), 1)
        return steps

    def run(self, row: Row, config: Config) -> dict:
        """Trains one row and returns what it reached."""
        config = dataclasses.replace(config, **row.changes)
        steps = self.steps(row, config)
        aigan, done = self.build(row, config, sum(steps.values())), 0
        began = time.process_time()
        for stage, count in steps.items():
            aigan.stage = stage
            batches = self.batches(config, done)
            with precision(config, aigan):
                history = aigan.fit(batches, steps_per_epoch=count, shuffle=False, verbose=0).history
            done += count
        seconds = round(time.process_time() - began)
        attack = tf.function(aigan.call, reduce_retracing=True)
        measured = measure_attack(attack, self.examples, config.epsilon, config.targeted, config.seed)
        kept = ("num_attacks", "success_rate", "worst_target_success_rate", "mean_l2")
        return {name: getattr(measured, name) for name in kept} | {
            "training_success_rate": history["targeted_success_rate"][-1],
            "steps": steps,
            "seconds": seconds,
            "parameters": aigan.generator.count_params(),
        }


def precision(config: Config, aigan: AIGAN) -> MixedPrecision:
    """Returns a block within which a model trains as in train.py."""
    return MixedPrecision(config.mixed_precision, (aigan.generator, aigan.discriminator))


def read_study(output: pathlib.Path, settings: dict) -> dict:
    """Returns the study in `output`, or an empty one."""
    if not output.exists():
        return {"settings": settings, "rows": {}}
    study = json.loads(output.read_text())
    if study["settings"] != json.loads(json.dumps(settings)):
        sys.exit(f"error: {output} holds a study with other settings: expected the same; choose another --output")
    return study


def main(_):
    names = [name.strip() for each in _ROWS.value for name in each.split(";")] or list(ROWS)
    unknown = set(names) - set(ROWS)
    if unknown:
        sys.exit(f"error: --rows has {min(unknown)!r}: expected some of {'; '.join(ROWS)}; correct it")
    dataset = load(_DATASET.value, _DATA_DIR.value)
    model = keras.models.load_model(_CLASSIFIER.value, compile=False)
    classifier = architectures.frozen(model)
    validation = dataset.validation
    examples = EvaluationSet(
        classifier, validation.as_float(), validation.labels, dataset.class_names, split="validation"
    )
    config = make_config(dataset=_DATASET.value)
    settings = {
        "dataset": _DATASET.value,
        "device": device_name(),
        "processor": processor_name(),
        "classifier": _CLASSIFIER.value,
        "validation_accuracy": float(examples.correct.mean()),
        "seconds": _SECONDS.value,
        "stage1_share": _STAGE1_SHARE.value,
        "base": dataclasses.asdict(config),
    }
    output = pathlib.Path(_OUTPUT.value)
    features = features_of(model, dataset.image_shape, map_sizes(config, dataset.image_shape))
    study = Study(dataset, examples, _SECONDS.value, _STAGE1_SHARE.value, features)
    for seed in _SEEDS.value:
        for name in names:
            if ROWS[name].is_base(config):
                print(f"{name}: as in the preset of {_DATASET.value}, not run")
                continue
            if seed in read_study(output, settings)["rows"].get(name, {}):
                continue
            result = study.run(ROWS[name], dataclasses.replace(config, seed=int(seed)))
            # Read again: two processes, one for each core, may share an output.
            written = read_study(output, settings)
            written["rows"].setdefault(name, {})[seed] = json.loads(json.dumps(result))
            write_json(output, written)
            write_bytes(output.with_suffix(".md"), study_table(written["rows"]).encode())
            print(name, seed, json.dumps(result), flush=True)
            keras.backend.clear_session()
    print(study_table(read_study(output, settings)["rows"]))


if __name__ == "__main__":
    app.run(main)
