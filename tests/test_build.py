"""The models that the settings of a run describe."""

import random

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.build import begin_from, build_aigan, build_generator, seeded_initializers
from aigan_tf.classifiers import architectures
from aigan_tf.classifiers.features import features_of
from aigan_tf.config import make_config
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.splits import Split
from aigan_tf.errors import InputError
from aigan_tf.method.pgd import pgd_attack
from aigan_tf.serving.export import ServedGenerator, export_generator
from aigan_tf.workdir import Workdir

KERNEL = tf.random.stateless_normal((32 * 32 * 3, 10), (0, 0))


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    split = Split(images, np.arange(8, dtype=np.int32))
    return ImageDataset("random", tuple("0123456789"), split, split, split)


def classifier(images):
    return tf.reshape(images, (-1, 32 * 32 * 3)) @ KERNEL


def build(dataset, total_steps=100, **settings):
    config = make_config(**dict(dataset="cifar10", generator_width=4, generator_blocks=1) | settings)
    return build_aigan(config, dataset, classifier, total_steps)


@pytest.mark.parametrize("attack", ["targeted", "untargeted"])
def test_attacker_follows_the_settings(attack, dataset):
    images, labels = tf.constant(dataset.train.as_float()), tf.constant(dataset.train.labels)
    aigan = build(dataset, attack=attack, attack_steps=2, attack_step_size=0.02)
    given = dict(epsilon=aigan.max_epsilons(images), seed=tf.constant((1, 2)))
    attacked = aigan.attacker(classifier, images, labels, **given)
    settings = dict(step_size=0.02, num_steps=2, targeted=attack == "targeted")
    np.testing.assert_allclose(attacked, pgd_attack(classifier, images, labels, **given, **settings), atol=1e-6)
    assert 4 / 255 < np.abs(attacked - images).max() <= 8 / 255 + 1e-6
    other_start = aigan.attacker(classifier, images, labels, **given | {"seed": tf.constant((3, 4))})
    assert np.abs(attacked - other_start).max() > 0.01


def test_objective_and_networks_follow_the_settings(dataset):
    aigan = build(
        dataset, gan_weight=0.3, hinge_weight=0.7, hinge_threshold=0.9, learning_rate=0.004,
        discriminator_learning_rate=0.003, seed=5, discriminator_width=6, class_maps=3, gain_maps=True,
        variable_epsilon=True, hard_targets=True,
    )  # fmt: skip
    assert aigan.hard_targets
    assert (aigan.gan_weight, aigan.hinge_weight, aigan.hinge_threshold) == (0.3, 0.7, 0.9)
    assert aigan.epsilon == pytest.approx(8 / 255)
    assert (aigan.targeted, aigan.seed, aigan.num_classes) == (True, 5, 10)
    assert float(aigan.generator_optimizer.learning_rate) == pytest.approx(0.004)
    assert float(aigan.discriminator_optimizer.learning_rate) == pytest.approx(0.003)
    aigan.generator_optimizer.iterations.assign(100)
    assert float(aigan.generator_optimizer.learning_rate) == pytest.approx(0.0)  # the end of the cosine
    assert not aigan.jit_compile  # XLA halves the speed of convolutions on a CPU
    settings = aigan.generator.settings
    names = ("width", "num_blocks", "halvings", "class_maps", "gain_maps", "map_size", "budget_input")
    assert [settings[name] for name in names] == [4, 1, 2, 3, True, 32, True]
    assert aigan.discriminator.convs[-1].filters == 24


def test_the_budget_of_training_falls_to_epsilon_in_half_of_the_steps_and_is_the_attacker_s_too(dataset):
    aigan = build(dataset, epsilon_start=3.0, stage1_epochs=1)
    aigan.generator.head.bias.assign([9.0] * 3)  # beyond the bound: every perturbation is as long as its budget lets it
    images, labels = tf.fill((8, 32, 32, 3), 0.5), tf.constant(dataset.train.labels)
    attack, attacked = aigan.attacker, []
    aigan.attacker = lambda *args, **kwargs: attacked.append(attack(*args, **kwargs)) or attacked[-1]
    for step, factor in [(0, 3.0), (25, 2.0), (49, 1.04), (50, 1.0), (99, 1.0)]:  # of 100
        aigan.generator_optimizer.iterations.assign(step)
        aigan.reset_metrics()
        aigan.train_step((images, labels))
        assert float(aigan.perturbation_linf.result()) == pytest.approx(factor * 8 / 255, rel=1e-4)
        assert np.abs(attacked[-1] - images).max() == pytest.approx(factor * 8 / 255, rel=1e-4)
    aigan.reset_metrics()
    aigan.generator_optimizer.iterations.assign(0)
    aigan.test_step((images, labels))
    assert float(aigan.perturbation_linf.result()) == pytest.approx(8 / 255, rel=1e-4)
    assert np.abs(aigan(images, labels) - images).max() == pytest.approx(8 / 255, rel=1e-4)


def test_the_larger_budget_lasts_a_thousand_steps_at_most(dataset):
    aigan = build(dataset, total_steps=50_000, epsilon_start=2.0)
    factors = [float(aigan.epsilon_factor(tf.constant(step))) for step in (0, 500, 1000, 25_000)]
    assert factors == pytest.approx([2.0, 1.5, 1.0, 1.0])


def test_the_gradient_beyond_the_bounds_falls_with_the_learning_rate(dataset):
    config = make_config(dataset="cifar10", generator_width=4, generator_blocks=1)
    aigan = build_aigan(config, dataset, classifier, 400, restarts=(200,))
    shares = [float(aigan.leak(tf.constant(step, tf.int64))) for step in (0, 100, 200, 300, 400)]
    assert shares == pytest.approx([1.0, 0.5, 1.0, 0.5, 0.0], abs=1e-6)


def test_weights_depend_on_the_seed_alone(dataset):
    random.seed(1)
    first = build(dataset, seed=3).generator.get_weights()
    drawn = random.random()
    random.seed(1)
    assert drawn == random.random()  # the caller's state is restored
    second, other = (build(dataset, seed=seed).generator.get_weights() for seed in (3, 4))
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


def test_a_generator_begins_with_the_weights_of_another_that_fit(dataset, tmp_path, capsys):
    def generator(seed, **settings):
        settings = dict(dataset="cifar10", generator_width=4, generator_blocks=1, gain_maps=False) | settings
        with seeded_initializers(seed):
            return build_generator(make_config(**settings), dataset)

    trained, other = generator(3), generator(4)
    weights = Workdir(tmp_path).weights
    trained.save_weights(weights)
    Workdir(tmp_path).seal(weights, weights)
    begin_from(other, tmp_path)
    for variable, expected in zip(other.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(variable, expected)
    few = generator(4, target_classes=("7", "2"))
    fresh = few.embedding.embeddings.numpy()
    begin_from(few, tmp_path)
    np.testing.assert_array_equal(few.stem.conv.kernel.numpy(), trained.stem.conv.kernel.numpy())
    np.testing.assert_array_equal(few.embedding.embeddings.numpy(), fresh)  # it has rows for two classes
    assert "Beginning with the weights of" in capsys.readouterr().out
    with pytest.raises(InputError, match="no weights that fit") as caught:
        begin_from(generator(4, generator_width=5, target_classes=("7", "2")), tmp_path)
    assert caught.value.setting == "init_from"


def test_a_generator_begins_with_an_export(dataset, tmp_path):
    """Folded kernels and biases become weights from which training goes on; what it sees of the classifier stays."""
    image_shape, names = dataset.image_shape, dataset.class_names
    settings = dict(dataset="cifar10", generator_width=4, class_maps=2, classifier_features=True)

    def generator(seed, **changed):
        with seeded_initializers(seed):
            model = architectures.build("small", image_shape, 10)
            features = features_of(model, image_shape, [(32, 32), (16, 16), (8, 8)])
            return build_generator(make_config(**settings | changed), dataset, features=features)

    def directions(network, training=False):
        return network(dataset.train.as_float(), dataset.train.labels, training=training).numpy()

    trained, other = generator(1), generator(2)
    directions(trained, training=True)  # moves the statistics of the batch normalisation
    other_features = other.features.get_weights()
    served = ServedGenerator(trained, image_shape, names, 0.1, targeted=True)
    export_generator(Workdir(tmp_path).exports, served, {})
    begin_from(other, tmp_path)
    for now, before in zip(other.features.get_weights(), other_features, strict=True):
        np.testing.assert_array_equal(now, before)
    other.features.set_weights(trained.features.get_weights())
    np.testing.assert_allclose(directions(other), directions(trained), atol=1e-4)
    # In training the normalisation takes the batch's statistics, which scales of kernels do not change.
    np.testing.assert_allclose(directions(other, training=True), directions(trained, training=True), atol=1e-3)
    with pytest.raises(InputError, match="does not fit") as caught:
        begin_from(generator(3, class_maps=3), tmp_path)
    assert caught.value.setting == "init_from"


def test_a_generator_of_some_classes_learns_and_is_measured_towards_them_alone(dataset):
    aigan = build(dataset, target_classes=("7", "2"), class_maps=2, gain_maps=True)
    assert [table.input_dim for table in (aigan.generator.embedding, aigan.generator.maps, aigan.generator.gains)] == [
        2
    ] * 3
    labels = tf.repeat(tf.range(10), 100)
    drawn = tf.function(aigan.choose_targets)(labels, (1, 2))
    for targets in (drawn.numpy(), aigan.choose_targets(labels).numpy()):
        assert set(targets) == {2, 7}
        assert not np.any(targets == labels)
        assert np.mean(targets[:200] == 2) == pytest.approx(0.5, abs=0.15)
    images = tf.constant(dataset.train.as_float())
    aigan.generator.embedding.embeddings.assign(tf.random.stateless_normal((2, 64), (1, 2)))
    seven, two = (aigan.perturb(images, tf.fill([8], target), aigan.max_epsilons(images))[0] for target in (7, 2))
    assert np.abs(seven - two).max() > 0
    with pytest.raises(InputError) as caught:
        build(dataset, target_classes=("2", "cat"))
    assert caught.value.setting == "target_classes"


def test_images_of_the_only_target_class_are_not_attacked(dataset):
    images = tf.constant(dataset.train.as_float())
    labels = tf.argmax(classifier(images), -1, tf.int32)
    aigan = build(dataset, target_classes=(str(int(labels[0])),))
    aigan.test_step((images, labels))
    assert float(aigan.success_rate.count) == np.sum(labels != labels[0]) < 8
