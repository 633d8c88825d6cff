"""Rates and norms against numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.classifiers.accuracy import accuracy, predictions
from aigan_tf.errors import InputError
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.measure import Attack, measure_attack, measure_attacks

NAMES = ("a", "b", "c", "d")


def classifier(images):
    """Answers with the first pixel's tenth: a pixel in [0.2, 0.3) means class 2."""
    return tf.one_hot(tf.cast(tf.floor(images[:, 0, 0, 0] * 10 + 1e-4), tf.int32), 4)


def move(images, targets):
    """Sets the first pixel to mean the target, but only if the second pixel is set."""
    wanted = (tf.cast(targets, tf.float32) + 0.5) / 10
    first = tf.where(images[:, 0, 1, 0] > 0.5, wanted, images[:, 0, 0, 0])
    return tf.stack([first, images[:, 0, 1, 0]], axis=1)[:, tf.newaxis, :, tf.newaxis]


def stay(images, targets):
    return images


def make_images(answers, movable):
    pixels = np.stack([(np.array(answers) + 0.5) / 10, np.array(movable, np.float32)], axis=1)
    return pixels[:, np.newaxis, :, np.newaxis].astype(np.float32)


# Seven images; the classifier misses the third and the last, both of which the attack could move.
ANSWERS = [0, 1, 2, 3, 0, 1, 2]
LABELS = np.array([0, 1, 3, 3, 0, 1, 0], np.int32)
IMAGES = make_images(ANSWERS, [1, 0, 1, 1, 1, 0, 1])
RIGHT = (0, 1, 3, 0, 1)  # labels of the images that the classifier gets right


def measure(attack=move, classifier=classifier, images=IMAGES, labels=LABELS, names=NAMES, epsilon=0.5, **arguments):
    examples = EvaluationSet(classifier, images, labels, names)
    return measure_attack(attack, examples, epsilon, **{"batch_size": 3, **arguments})


def recording(calls):
    """An attack that changes nothing and appends `(class of the image, target)` to `calls`."""

    def attack(images, targets):
        calls.extend(zip((images[:, 0, 0, 0].numpy() * 10).astype(int), targets.numpy(), strict=True))
        return images

    return attack


def test_only_the_target_classes_are_targets():
    calls = []
    examples = EvaluationSet(classifier, IMAGES, LABELS, NAMES, target_classes=(2, 0))
    result = measure_attack(recording(calls), examples, 0.5)
    assert sorted(calls) == sorted((label, target) for label in RIGHT for target in (2, 0) if label != target)
    assert result.success_by_class == {"a": 0.0, "b": None, "c": 0.0, "d": None}
    assert result.worst_target in ("a", "c")


def test_attacks_are_drawn_if_there_are_too_many():
    examples = EvaluationSet(classifier, IMAGES, LABELS, NAMES, max_attacks=6)
    calls = []
    result = measure_attack(recording(calls), examples, 0.5)
    assert (result.num_attacks, result.drawn_from) == (6, 15)
    assert len(set(calls)) > 1
    again, other = [], []
    measure_attack(recording(again), examples, 0.5)
    measure_attack(recording(other), examples, 0.5, seed=1)
    assert again == calls != other  # several attacks are measured on the same ones
    assert measure_attack(recording([]), EvaluationSet(classifier, IMAGES, LABELS, NAMES), 0.5).drawn_from is None


def test_all_images_that_the_classifier_gets_right_count_and_no_others():
    result = measure()
    assert result.num_examples == 7
    assert result.num_correct == 5  # two batches of three, the last one partial
    assert result.clean_accuracy == pytest.approx(5 / 7)
    assert result.num_attacks == 15
    # Movable and right: labels 0, 3, 0, each with its three other targets; never the two of label 1.
    rates = (result.success_rate, result.success_rate_float, result.untargeted_success_rate)
    assert rates == pytest.approx([9 / 15] * 3)
    assert result.success_interval == pytest.approx([0.35747, 0.80175], abs=1e-5)  # Wilson's formula for 9 of 15
    # Attacks: a on 1, 3, 1; b on 0, 3, 0; c on all; d on 0, 0, 1, 1.
    assert result.success_by_class == pytest.approx({"a": 1 / 3, "b": 3 / 3, "c": 3 / 5, "d": 2 / 4})
    assert (result.worst_target, result.worst_target_success_rate) == ("a", pytest.approx(1 / 3))
    assert result.success_matrix == [
        [None, 1.0, 1.0, 1.0],
        [0.0, None, 0.0, 0.0],
        [None] * 4,  # no image of label 2 is classified correctly
        [1.0, 1.0, 1.0, None],
    ]


def test_norms_are_of_all_attacks_and_of_successes():
    result, unchanged = measure(), measure(stay)
    # Pixels move by whole tenths: 0 to 1, 2, 3 (twice) and 3 to 0, 1, 2; 8-bit rounding moves them a little.
    moves = [0.1, 0.2, 0.3] * 3
    assert result.mean_l2 == pytest.approx(np.mean(moves + [0.0] * 6), abs=2 / 255)
    assert result.mean_l2_of_successes == pytest.approx(np.mean(moves), abs=2 / 255)
    assert result.max_linf == pytest.approx(0.3, abs=1 / 255)
    assert result.max_linf_float == pytest.approx(0.3, abs=1e-6)
    assert result.mean_ssim < 0.999
    assert unchanged.mean_ssim == pytest.approx(1.0)
    assert unchanged.mean_l2_of_successes is None


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batch_size_and_dtype_change_nothing(batch_size):
    one, other = measure(batch_size=batch_size).to_dict(), measure().to_dict()
    doubles = measure(lambda images, targets: move(images, targets).numpy().astype(np.float64)).to_dict()
    for result in (one, other, doubles):
        assert result.pop("milliseconds_per_image") > 0
    assert one == other == doubles
    np.testing.assert_array_equal(predictions(classifier, IMAGES, batch_size), ANSWERS)
    assert accuracy(classifier, IMAGES, LABELS, batch_size) == pytest.approx(5 / 7)


def test_untargeted_success_is_leaving_the_label():
    result = measure(lambda images, labels: move(images, (labels + 1) % 4), targeted=False)
    assert (result.attack, result.num_attacks, result.worst_target) == ("untargeted", 5, None)
    assert result.success_rate == result.untargeted_success_rate == pytest.approx(3 / 5)
    assert result.success_by_class == pytest.approx({"a": 1.0, "b": 0.0, "c": None, "d": 1.0})


def test_success_that_rounding_destroys_does_not_count():
    def threshold(images):
        """Class 1 above 127.1 grey levels, else class 0; 0.4986 is 127.143 levels and rounds to 127."""
        return tf.one_hot(tf.cast(images[:, 0, 0, 0] > 127.1 / 255, tf.int32), 2)

    images, labels = np.full((2, 1, 1, 1), 0.4, np.float32), np.zeros(2, np.int32)
    given = dict(classifier=threshold, images=images, labels=labels, names=("low", "high"), epsilon=0.1)
    for targeted in (True, False):
        result = measure(lambda clean, targets: clean + 0.0986, targeted=targeted, **given)
        assert (result.success_rate_float, result.success_rate, result.untargeted_success_rate) == (1.0, 0.0, 0.0)
    # Rounds down to 127 too, since the budget ends there.
    assert measure(lambda clean, targets: clean + 0.0999, **given).max_linf <= 0.1


def test_targets_are_all_other_classes_or_as_many_as_given():
    calls, drawn, limited = [], [], []
    measure(recording(calls))
    assert sorted(calls) == sorted((label, target) for label in RIGHT for target in range(4) if target != label)
    assert measure(Attack(recording(drawn), targets_per_image=1)).num_attacks == 5
    assert sorted(label for label, _ in drawn) == sorted(RIGHT)
    assert set(drawn) <= set(calls)  # never the label
    result = measure(Attack(recording(limited), target_classes=[0, 2]))
    assert sorted(target for _, target in limited) == [0] * 3 + [2] * 5  # two of the five images have label 0
    assert result.success_by_class == {"a": 0.0, "b": None, "c": 0.0, "d": None}
    with pytest.raises(InputError, match="only target class"):
        measure(Attack(move, target_classes=[0]), labels=np.zeros(7, np.int32))


def test_with_many_classes_each_image_gets_ten_targets_drawn_by_the_seed():
    def first_of_many(images):
        return tf.one_hot(tf.zeros(tf.shape(images)[0], tf.int32), 25)

    def targets_by_image(seed):
        calls, labels = [], np.zeros(4, np.int32)
        examples = make_images([0, 1, 2, 3], [0, 0, 0, 0]), labels, tuple(map(str, range(25)))
        result = measure(recording(calls), first_of_many, *examples, seed=seed)
        assert (result.num_attacks, result.success_matrix) == (40, None)
        return [sorted(target for image, target in calls if image == k) for k in range(4)]

    first, same, other = map(targets_by_image, (0, 0, 1))
    assert all(len(set(targets)) == 10 and min(targets) >= 1 for targets in first)
    assert first[0] != first[1]
    assert first == same != other


def break_one(images, targets):
    """Exceeds the budget on one attack of all fifteen."""
    return tf.where((images[:, :1, :1] > 0.3) & (targets[:, None, None, None] == 2), images + 0.2, images)


@pytest.mark.parametrize(
    ("bad", "cause"),
    [
        (lambda images, targets: tf.clip_by_value(images + 0.12, 0, 1), "linf"),
        (lambda images, targets: images - 0.06, "outside"),
        (lambda images, targets: images + tf.constant([0.0, np.nan])[:, tf.newaxis], "threat model"),
        (break_one, "linf"),
        (lambda images, targets: images[:, 0, :, 0], "shape"),
    ],
)
def test_attack_that_breaks_the_threat_model_is_refused(bad, cause):
    with pytest.raises(InputError, match=cause):
        measure(bad, epsilon=0.1)


def test_only_an_unbounded_attack_may_exceed_epsilon_and_is_measured_within_it_too():
    examples = EvaluationSet(classifier, IMAGES, LABELS, NAMES)
    with pytest.raises(InputError, match="threat model"):
        measure_attacks({"far": move}, examples, 0.11)
    results = measure_attacks({"far": Attack(move, bounded=False)}, examples, 0.11, batch_size=3)
    assert list(results) == ["far", "far, moved into epsilon"]
    far, moved = results.values()
    assert (far.success_rate, moved.success_rate) == pytest.approx((9 / 15, 3 / 15))  # 0 to 1, twice, and 3 to 2
    assert far.max_linf > 0.25
    assert moved.max_linf <= 0.11
    assert moved.milliseconds_per_image == far.milliseconds_per_image


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        (dict(images=IMAGES * 255), r"255\.0"),
        (dict(images=IMAGES * np.nan), "NaN"),
        (dict(images=IMAGES[:0], labels=LABELS[:0]), r"\(0, 1, 2, 1\)"),
        (dict(labels=LABELS.astype(np.float32)), "float32"),
        (dict(labels=LABELS + 1), "from 1 to 4"),
        (dict(names=(*NAMES, "another")), r"\(1, 4\)"),
        (dict(labels=(np.array(ANSWERS, np.int32) + 1) % 4), "none of 7 images"),
        (dict(epsilon=8), "epsilon"),
    ],
)
def test_what_cannot_be_measured_is_refused(changed, cause):
    with pytest.raises(InputError, match=cause):
        measure(**changed)
