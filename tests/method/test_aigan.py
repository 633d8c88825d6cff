"""The algorithm: who is trained on what, with whom, and in which stage."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.method.losses import adversarial_loss, discriminator_loss, gan_loss, hinge_loss
from aigan_tf.method.networks import Generator
from aigan_tf.method.pgd import pgd_attack
from aigan_tf.method.targets import draw_targets, spread_targets

SGD = keras.optimizers.SGD


def values(variables):
    return [variable.numpy() for variable in variables]


def assert_same(variables, before):
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def indifferent_classifier(images):
    """Gives every class the same logit whatever the image: no adversarial term moves the generator."""
    return tf.tile(0.0 * tf.reduce_sum(images, axis=[1, 2, 3])[:, tf.newaxis], (1, 10))


def inverted(classifier, images, targets, epsilon, seed):
    """In the attacker's place: images that nothing else makes."""
    return 1.0 - images


@pytest.fixture(scope="module")
def few(batch):
    """Eight images and labels as tensors, for one training step outside a graph."""
    images, labels = batch
    return tf.constant(images[:8]), tf.constant(labels[:8])


class ConstantGenerator(keras.Model):
    """Gives one direction for all pixels."""

    def __init__(self, direction):
        super().__init__()
        self.direction = self.add_weight(shape=(), initializer=keras.initializers.Constant(direction))
        self.built = True

    def call(self, images, targets, budgets=None, training=None):
        return self.direction * tf.ones_like(images)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_targets_are_uniform_over_the_other_classes(num_classes):
    count = 4000 * num_classes
    labels = tf.range(count) % num_classes
    drawn = draw_targets(labels, num_classes, [1, 2])
    assert drawn.dtype == tf.int32
    pairs = np.zeros((num_classes, num_classes))
    np.add.at(pairs, (labels.numpy(), drawn.numpy()), 1)
    assert (np.diag(pairs) == 0).all()
    others = pairs[~np.eye(num_classes, dtype=bool)]
    share = 1 / (num_classes - 1)
    assert np.abs(others - 4000 * share).max() <= 5 * np.sqrt(4000 * share * (1 - share))
    assert not np.array_equal(drawn, draw_targets(labels, num_classes, [1, 3])) or num_classes == 2

    for label in range(num_classes):
        spread = spread_targets(tf.fill((2 * (num_classes - 1),), label), range(num_classes)).numpy()
        assert spread.dtype == np.int32
        first, second = spread.reshape(2, -1)
        assert sorted(first) == sorted(set(range(num_classes)) - {label})
        np.testing.assert_array_equal(first, second)


def test_targets_are_drawn_in_proportion_to_their_weights():
    labels, weights = tf.repeat([0, 2, 4], 20000), np.float32([1.0, 3.0, 0.5, 2.0, 4.0])
    drawn = draw_targets(labels, 5, [1, 2], tf.repeat(weights[None], 60000, 0)).numpy().reshape(3, -1)
    for label, found in zip([0, 2, 4], drawn, strict=True):
        expected = np.where(np.arange(5) == label, 0.0, weights) / (weights.sum() - weights[label])
        np.testing.assert_allclose(np.bincount(found, minlength=5) / 20000, expected, atol=0.015)


def test_hard_targets_follow_the_share_of_attacks_that_fail(make_aigan, few):
    """A classifier that answers 3 whatever it is shown."""
    images, labels = few[0], tf.range(len(few[0])) % 2
    always = 9.0 * tf.one_hot([3], 10)
    aigan = make_aigan(lambda images: always + tf.reduce_mean(images, [1, 2]), hard_targets=True)
    np.testing.assert_array_equal(aigan.failure_rates, 1)
    expected = np.ones((10, 10))
    for _ in range(3):
        targets = aigan.choose_targets(labels, aigan.step_seeds()[0]).numpy()
        aigan.train_step((images, labels))
        expected[:2, 3] *= 0.9 ** np.bincount(labels[targets == 3], minlength=2)
        np.testing.assert_allclose(aigan.failure_rates, expected, rtol=1e-5)
    assert expected[0, 3] != expected[1, 3]
    np.testing.assert_allclose(aigan.target_weights(labels), 1, atol=0.05)  # while most fails, as good as even
    rates = np.eye(10)
    rates[0, 7] = 1.0  # what fails from another class is no reason to draw it
    aigan.failure_rates.assign(rates)
    for label, share in [(0, 1.05 / (1.05 + 8 * 0.05)), (1, 1 / 9)]:
        drawn = aigan.choose_targets(tf.fill([10000], label), (0, 0)).numpy()
        assert np.mean(drawn == 7) == pytest.approx(share, abs=0.02)
        assert set(drawn) == set(range(10)) - {label}  # those that are reached are drawn too


def test_each_step_gives_generator_and_attacker_the_same_new_targets_and_budgets(make_aigan, few):
    images, labels = (tensor.numpy() for tensor in few)
    generator = Generator(10, 1, width=4, num_blocks=1, embedding_dim=8, budget_input=True)
    generator.head.bias.assign([9.0])  # beyond the bound: every perturbation is as long as its budget lets it
    original, seen, given = generator.call, [], []

    def call(images, targets, budgets, training):
        seen.append((images.numpy(), targets.numpy(), budgets.numpy()))
        return original(images, targets, budgets, training)

    def attacker(classifier, images, targets, epsilon, seed):
        given.append((images.numpy(), targets.numpy(), epsilon.numpy() / 0.3, tuple(np.asarray(seed))))
        return images

    generator.call = call
    aigan = make_aigan(None, generator, attacker=attacker, variable_epsilon=True, hinge_threshold=0.5 * 0.3 * 8)
    for _ in range(3):
        aigan.reset_metrics()
        logs = {name: float(value) for name, value in aigan.train_step(few).items()}
        (_, targets, budgets), (*attacked, _) = seen[-1], given[-1]
        for one, other in zip(seen[-1], attacked, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
        np.testing.assert_array_equal(seen[-1][0], images)
        assert (targets != labels).all()
        assert set(targets) <= set(range(10))
        assert len(set((targets - labels) % 10)) > 1  # one draw per image, not one for the batch
        assert len(set(budgets.tolist())) > 2
        # c falls with the budget: each image is as much over it as its budget allows.
        assert logs["hinge_active"] == 1.0
        assert logs["hinge_loss"] == pytest.approx(0.5 * 0.3 * 8 * np.mean(budgets), rel=1e-3)
    assert len(seen) == len({tuple(targets) for _, targets, _ in seen}) == len({seed for *_, seed in given}) == 3
    first, same, other = (np.array(make_aigan(seed=seed).step_seeds()) for seed in (0, 0, 1))
    assert (first == same).all()
    assert (first != other).any(axis=1).all()


@pytest.mark.parametrize("term", ["adversarial_loss", "gan_loss", "hinge_loss"])
def test_each_term_alone_trains_the_generator_alone_in_both_stages(make_aigan, digit_classifier, few, term):
    aigan = make_aigan(
        classifier=digit_classifier if term == "adversarial_loss" else indifferent_classifier,
        attacker=inverted,
        generator_optimizer=SGD(0.05),
        discriminator_optimizer=SGD(0.0),
        gan_weight=1.0 if term == "gan_loss" else 0.0,
        hinge_weight=1.0 if term == "hinge_loss" else 0.0,
        attack="untargeted",  # the same targets at every step, so that losses can be compared
    )
    aigan.generator.head.kernel.assign(tf.sign(aigan.generator.head.kernel) * 0.1)  # room for the hinge to shrink
    start, discriminator = aigan.generator.get_weights(), values(aigan.discriminator.variables)
    for stage in (1, 2):
        aigan.stage = stage
        aigan.generator.set_weights(start)
        before = values(aigan.generator.trainable_variables)
        losses = []
        for _ in range(3):
            aigan.reset_metrics()
            losses.append(float(aigan.train_step(few)[term]))

        for variable, value in zip(aigan.generator.trainable_variables, before, strict=True):
            assert np.abs(variable - value).max() > 0, f"{term} does not reach {variable.path} in stage {stage}"
        assert losses[-1] < losses[0]
    assert_same(aigan.discriminator.variables, discriminator)


def test_the_discriminator_learns_alone_if_no_term_has_a_weight(make_aigan, few):
    aigan = make_aigan(indifferent_classifier, attacker=inverted, attack="untargeted", gan_weight=0.0, hinge_weight=0.0)
    generator = values(aigan.generator.trainable_variables)
    for stage in (1, 2):
        aigan.stage = stage
        before = values(aigan.discriminator.trainable_variables)
        losses = []
        for _ in range(5):
            aigan.reset_metrics()
            losses.append(float(aigan.train_step(few)["discriminator_loss"]))

        assert losses[-1] < losses[0]
        for variable, value in zip(aigan.discriminator.trainable_variables, before, strict=True):
            assert np.abs(variable - value).max() > 0, variable.path
        assert_same(aigan.generator.trainable_variables, generator)  # so nothing but the three terms moves it


@pytest.mark.parametrize("stage", [1, 2])
def test_a_generator_at_its_bounds_still_learns(make_aigan, digit_classifier, few, stage):
    images = tf.zeros_like(few[0]), few[1]
    for direction in (9.0, -9.0):  # clamped to epsilon; and below black, where the picture is what is clamped
        generator = ConstantGenerator(direction)
        weights = {"gan_weight": 0.0, "hinge_weight": 0.0}
        aigan = make_aigan(digit_classifier, generator, generator_optimizer=SGD(1.0), **weights)
        aigan.stage = stage
        aigan.train_step(images)
        assert 0 < float(generator.direction) / direction < 1


def test_a_step_leaves_the_classifier_bit_identical(make_aigan, make_classifier, few):
    classifier = make_classifier()
    aigan = make_aigan(classifier)
    before = values(classifier.variables)
    for stage in (1, 2):
        aigan.stage = stage
        aigan.train_step(few)
    aigan.test_step(few)

    assert_same(classifier.variables, before)
    own = {id(variable) for variable in aigan.variables}
    assert not own & {id(variable) for variable in classifier.variables}  # neither trained nor saved with it


@pytest.mark.parametrize("stage", [1, 2])
def test_a_step_reports_the_losses_of_the_papers_terms(make_aigan, make_classifier, few, stage):
    images, classifier = few[0], make_classifier()
    answers = np.argmax(classifier(images), -1).astype(np.int32)
    labels = np.where(np.arange(len(answers)) % 4 == 0, answers, (answers + 1) % 10)  # most attacks succeed
    weights = {"gan_weight": 0.5, "hinge_weight": 3.0, "hinge_threshold": 0.02}
    still = {"generator_optimizer": SGD(0.0), "discriminator_optimizer": SGD(0.0)}
    aigan = make_aigan(classifier, attacker=inverted, attack="untargeted", **weights, **still)
    aigan.stage = stage
    perturbations, _ = aigan.perturb(images, labels, aigan.max_epsilons(images), training=True)
    adversarial_images = tf.clip_by_value(images + perturbations, 0, 1)
    real_images = 1.0 - images if stage == 1 else images
    fake_logits = aigan.discriminator(adversarial_images)
    adversarial = adversarial_loss(classifier(adversarial_images, training=False), labels, False)
    gan, hinge = gan_loss(fake_logits), hinge_loss(perturbations, 0.02)
    expected = {
        "adversarial_loss": adversarial,
        "gan_loss": gan,
        "hinge_loss": hinge,
        "discriminator_loss": discriminator_loss(aigan.discriminator(real_images), fake_logits),
        "untargeted_success_rate": np.mean(np.argmax(classifier(adversarial_images), -1) != labels),
        "perturbation_linf": tf.reduce_max(tf.abs(adversarial_images - images)),
        "hinge_active": 1.0,
    }
    share = expected["untargeted_success_rate"]
    expected["generator_loss"] = adversarial + 0.5 * (1 if stage == 1 else share) * gan + 3.0 * share * hinge
    assert hinge > 0
    assert 0 < share < 1

    for _ in range(2):  # twice: with dropout or the batch's statistics in the classifier the two would differ
        aigan.reset_metrics()
        logs = aigan.train_step((images, labels))
        for name, value in expected.items():
            np.testing.assert_allclose(logs[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_budget_and_the_hinge_have_their_own_constants(make_aigan, few):
    """A perturbation of 0.1 at each of 64 pixels is 0.8 long."""
    grey, labels = tf.fill((8, 8, 8, 1), 0.5), few[1]
    for threshold, excess in ((0.0, 0.8), (0.75, 0.05), (0.85, 0.0), (5.0, 0.0)):
        aigan = make_aigan(generator=ConstantGenerator(9.0), epsilon=0.1, hinge_threshold=threshold)
        logs = aigan.test_step((grey, labels))
        assert float(logs["hinge_loss"]) == pytest.approx(excess, abs=1e-5)
        assert float(logs["hinge_active"]) == (excess > 0)
        np.testing.assert_allclose(aigan(grey, labels), 0.6, atol=1e-6)

        aigan.reset_metrics()
        logs = aigan.test_step((tf.ones_like(grey), labels))
        assert float(logs["hinge_loss"]) == pytest.approx(excess, abs=1e-5)  # of the perturbation before clipping
        assert float(logs["perturbation_linf"]) == 0  # clipping left nothing


def test_the_model_maps_images_and_classes_to_admissible_images(make_aigan, few):
    images, labels = few
    aigan = make_aigan(epsilon=0.05)
    aigan.generator.head.kernel.assign(100.0 * aigan.generator.head.kernel)  # at the edge of the budget
    adversarial_images, other = (aigan(images, targets).numpy() for targets in (labels, (labels + 1) % 10))

    assert 0.049 < np.abs(adversarial_images - images).max() <= 0.05 + 1e-6
    assert adversarial_images.min() >= 0
    assert adversarial_images.max() <= 1
    assert (np.abs(other - adversarial_images).max(axis=(1, 2, 3)) > 1e-3).all()


def test_one_trace_serves_both_stages_and_attacks_in_stage_1_alone(make_aigan, batch):
    """`fit` over two stages of two epochs each, on ten images in batches of four, the last one partial."""
    images, labels = batch
    traces, attacks, attacks_after_epoch = [], tf.Variable(0), []

    def attacker(classifier, images, targets, epsilon, seed):
        traces.append(1)  # Python runs only while a graph is traced
        attacks.assign_add(1)  # the graph runs this
        return pgd_attack(classifier, images, targets, epsilon=0.3, step_size=0.2, num_steps=2, seed=seed)

    aigan = make_aigan(attacker=attacker)

    def on_epoch_end(epoch, logs):
        attacks_after_epoch.append(int(attacks))
        aigan.stage = 1 if epoch == 0 else 2

    history = aigan.fit(
        tf.data.Dataset.from_tensor_slices((images[:10], labels[:10])).batch(4),
        validation_data=tf.data.Dataset.from_tensor_slices((images[10:], labels[10:])).batch(4),
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)],
    ).history
    assert attacks_after_epoch == [3, 6, 6, 6]  # none in validation
    assert len(traces) == 1
    for optimizer in (aigan.generator_optimizer, aigan.discriminator_optimizer):
        assert int(optimizer.iterations) == 12
    assert all(len(epochs) == 4 and np.isfinite(epochs).all() for epochs in history.values())


def test_validation_counts_every_image_once(make_aigan, make_classifier, batch):
    """Six images in batches of four, three of which the classifier gets right; the partial batch counts for two."""
    images, classifier = batch[0][10:], make_classifier()
    answers, right = np.argmax(classifier(images), -1), [0, 1, 4]
    labels = np.where(np.isin(np.arange(6), right), answers, (answers + 1) % 10).astype(np.int32)
    targets = np.concatenate([spread_targets(labels[:4], range(10)), spread_targets(labels[4:], range(10))])
    aigan = make_aigan(classifier)
    aigan.generator.head.kernel.assign(100.0 * aigan.generator.head.kernel)  # else every perturbation is near zero

    adversarial_images = aigan(images, targets).numpy()
    change = (adversarial_images - images).reshape(6, -1)
    logits = classifier(adversarial_images)
    expected = {
        "targeted_success_rate": np.mean((np.argmax(logits, -1) == targets)[right]),
        "perturbation_l2": np.linalg.norm(change, axis=1)[right].mean(),
        "perturbation_linf": np.abs(change).max(),
        "hinge_active": 1.0,
        "adversarial_loss": adversarial_loss(logits, targets, True),
        "gan_loss": gan_loss(aigan.discriminator(adversarial_images)),
        "hinge_loss": hinge_loss(aigan.perturb(images, targets, aigan.max_epsilons(images))[0], 0.0),
    }

    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    parts = [(4, aigan.attack(images[:4], targets[:4], aigan.max_epsilons(images[:4])))]
    parts.append((2, aigan.attack(images[4:], targets[4:], aigan.max_epsilons(images[4:]))))
    expected["generator_loss"] = sum(count * aigan.generator_loss(part).total for count, part in parts) / 6
    logs, again = (aigan.evaluate(dataset, verbose=0, return_dict=True) for _ in range(2))
    assert logs == again
    assert logs.keys() == expected.keys()  # no discriminator loss: there are no real images to tell from
    for name, value in expected.items():
        np.testing.assert_allclose(logs[name], value, rtol=2e-5, err_msg=name)
