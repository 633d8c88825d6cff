"""Counting, against numbers worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from aigan_tf.classifiers.accuracy import accuracy, predictions
from aigan_tf.errors import InputError
from aigan_tf.evaluation.measure import EvaluationSet, evaluate, evaluate_attack

NAMES = ("a", "b", "c", "d")


def classifier(images):
    """Answers with the first pixel's tenth: a pixel in [0.2, 0.3) means class 2."""
    return tf.one_hot(tf.cast(tf.floor(images[:, 0, 0, 0] * 10 + 1e-4), tf.int32), 4)


def attack(images, classes):
    """Sets the first pixel to mean the class, but only where the second pixel is set."""
    wanted = (tf.cast(classes, tf.float32) + 0.5) / 10
    first = tf.where(images[:, 0, 1, 0] > 0.5, wanted, images[:, 0, 0, 0])
    return tf.stack([first, images[:, 0, 1, 0]], axis=1)[:, tf.newaxis, :, tf.newaxis]


def make_images(classes, checked_classifier):
    pixels = np.stack([(np.array(classes) + 0.5) / 10, np.array(checked_classifier, np.float32)], axis=1)
    return pixels[:, np.newaxis, :, np.newaxis].astype(np.float32)


# Seven images; the classifier misses the third and the last, both of which the attack could move.
ANSWERS = [0, 1, 2, 3, 0, 1, 2]
LABELS = np.array([0, 1, 3, 3, 0, 1, 0], np.int32)
ATTACKABLE = [1, 0, 1, 1, 1, 0, 1]


def measure(attack=attack, classifier=classifier, images=None, labels=LABELS, names=NAMES, epsilon=0.5, **arguments):
    images = make_images(ANSWERS, ATTACKABLE) if images is None else images
    examples = EvaluationSet(classifier, images, labels, names)
    return evaluate_attack(attack, examples, epsilon, **{"batch_size": 3, **arguments})


def test_only_images_the_classifier_gets_right_are_attacked_and_all_of_those_count():
    result = measure()
    assert result["num_examples"] == 7
    assert result["num_correct"] == 5  # two batches of three, the last one partial
    assert result["clean_accuracy"] == pytest.approx(5 / 7)
    assert result["num_attacks"] == 15
    # Attackable and right: labels 0, 3, 0, each towards its three others; the two of label 1 never.
    assert result["success_rate"] == pytest.approx(9 / 15)
    assert result["success_rate_float"] == pytest.approx(9 / 15)
    assert result["untargeted_success_rate"] == pytest.approx(9 / 15)
    expected = {
        "a": 1 / 3,
        "b": 3 / 3,
        "c": 3 / 5,
        "d": 2 / 4,
    }  # tries: a by 1, 3, 1; b by 0, 3, 0; c by all; d by 0, 0, 1, 1
    assert result["success_by_class"] == pytest.approx(expected)
    assert result["worst_target"] == "a"
    assert result["worst_target_success_rate"] == pytest.approx(1 / 3)


def test_what_is_recorded():
    result = measure(seed=4)
    assert (result["attack"], result["split"], result["seed"], result["epsilon"]) == ("targeted", "test", 4, 0.5)
    # Pixels move by whole tenths: 0 to 1, 2, 3 (twice) and 3 to 0, 1, 2; 8-bit rounding moves them a little.
    moves = [0.1, 0.2, 0.3] * 3 + [0.0] * 6
    assert result["mean_l2"] == pytest.approx(np.mean(moves), abs=2 / 255)
    assert result["max_linf"] == pytest.approx(0.3, abs=1 / 255)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_batch_size_changes_nothing(batch_size):
    one, other = measure(batch_size=batch_size), measure()
    for result in (one, other):
        assert result.pop("milliseconds_per_image") > 0
    assert one == other


def test_the_interval_is_wilsons():
    low, high = measure()["success_interval"]  # 9 of 15
    z, n, p = 1.959964, 15, 9 / 15
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert low == pytest.approx((centre - half) / (1 + z**2 / n), abs=1e-6)
    assert high == pytest.approx((centre + half) / (1 + z**2 / n), abs=1e-6)


def test_as_many_targets_an_image_as_asked_for():
    asked = []

    def remember(images, classes):
        asked.append(classes.numpy())
        return images

    assert measure(remember, targets_per_image=1)["num_attacks"] == 5
    targets = np.concatenate(asked)
    assert (targets != LABELS[[0, 1, 3, 4, 5]]).all()
    assert measure(remember, targets_per_image=3)["num_attacks"] == 15


def test_only_an_attack_without_a_budget_may_leave_it():
    with pytest.raises(InputError, match="breaks the threat model"):
        measure(epsilon=0.01)
    assert measure(epsilon=0.01, bounded=False)["success_rate"] == pytest.approx(9 / 15)


def test_structural_similarity_is_one_without_a_change():
    assert measure(lambda images, classes: images)["mean_ssim"] == pytest.approx(1.0)
    assert measure()["mean_ssim"] < 0.999


def test_untargeted_success_is_leaving_the_label():
    def leave(images, labels):
        return attack(images, (labels + 1) % 4)

    result = measure(leave, targeted=False)
    assert result["attack"] == "untargeted"
    assert result["num_attacks"] == 5
    assert result["success_rate"] == pytest.approx(3 / 5)
    assert result["untargeted_success_rate"] == pytest.approx(3 / 5)
    assert result["success_by_class"] == pytest.approx({"a": 1.0, "b": 0.0, "c": None, "d": 1.0})
    assert "worst_target" not in result
    # The labels are handed to the attack: staying at them is a failure everywhere.
    assert measure(attack, targeted=False)["success_rate"] == 0.0


def recorder(calls):
    def record(images, classes):
        calls.extend(zip((images[:, 0, 0, 0] * 10).astype(int).tolist(), classes.tolist(), strict=True))
        return images

    def recording_attack(images, classes):
        seen = tf.numpy_function(record, [images, classes], tf.float32)
        return tf.ensure_shape(seen, images.shape)

    return recording_attack


def test_targets_are_all_other_classes_and_never_the_label():
    calls = []
    measure(recorder(calls))
    expected = [(label, target) for label in (0, 1, 3, 0, 1) for target in range(4) if target != label]
    assert sorted(calls) == sorted(expected)


def test_with_many_classes_each_image_gets_ten_different_targets():
    def many(images):
        return tf.one_hot(tf.zeros(tf.shape(images)[0], tf.int32), 25)  # every image is of class 0

    targets = {}
    images = make_images([0, 1, 2, 3], [0, 0, 0, 0])
    for seed in (0, 0, 1):
        calls = []
        result = measure(recorder(calls), many, images, np.zeros(4, np.int32), tuple(map(str, range(25))), seed=seed)
        assert result["num_attacks"] == 40
        by_image = [sorted(target for image, target in calls if image == k) for k in range(4)]
        for drawn in by_image:
            assert len(set(drawn)) == 10
            assert min(drawn) >= 1
        assert by_image[0] != by_image[1]
        targets.setdefault(seed, []).append(by_image)
    assert targets[0][0] == targets[0][1]
    assert targets[0][0] != targets[1][0]


def test_a_success_that_8_bits_destroy_does_not_count():
    def threshold(images):
        """Class 1 above 127.1 grey levels, else class 0; 0.4986 is 127.143 levels and rounds to 127."""
        return tf.one_hot(tf.cast(images[:, 0, 0, 0] > 127.1 / 255, tf.int32), 2)

    images = np.full((2, 1, 1, 1), 0.4, np.float32)
    labels = np.zeros(2, np.int32)
    arguments = dict(classifier=threshold, images=images, labels=labels, names=("low", "high"), epsilon=0.1)
    result = measure(lambda clean, classes: clean + 0.0986, **arguments)
    assert (result["success_rate_float"], result["success_rate"]) == (1.0, 0.0)
    assert result["untargeted_success_rate"] == 0.0
    result = measure(
        lambda clean, classes: clean + 0.0999, **arguments
    )  # rounds down to 127 too: the budget ends there
    assert result["max_linf"] <= 0.1
    untargeted = measure(lambda clean, classes: clean + 0.0986, targeted=False, **arguments)
    assert (untargeted["success_rate_float"], untargeted["success_rate"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (lambda images, classes: tf.clip_by_value(images + 0.12, 0, 1), "linf"),
        (lambda images, classes: tf.clip_by_value(images - 0.1001, 0, 1), "linf"),
        (lambda images, classes: images - 0.06, "outside"),
        (lambda images, classes: images + 0.01, "outside"),
        (lambda images, classes: images + tf.constant([0.0, np.nan])[:, tf.newaxis], "threat model"),
        (lambda images, classes: images * np.inf, "threat model"),
    ],
)
def test_an_attack_that_breaks_the_threat_model_is_an_error(bad, named):
    with pytest.raises(InputError, match=named):
        measure(bad, epsilon=0.1)


def test_one_bad_image_among_all_is_noticed():
    def last_one_bad(images, classes):
        return tf.where((images[:, :1, :1] > 0.3) & (classes[:, None, None, None] == 2), images + 0.2, images)

    assert measure(lambda images, classes: images, epsilon=0.1)["success_rate"] == 0.0
    with pytest.raises(InputError, match="linf"):
        measure(last_one_bad, epsilon=0.1)


def test_nothing_to_attack_is_an_error():
    with pytest.raises(InputError, match="none of 7 images"):
        measure(labels=(np.array(ANSWERS, np.int32) + 1) % 4)


def test_accuracy_counts_the_last_partial_batch():
    images = make_images(ANSWERS, ATTACKABLE)
    for batch_size in (1, 3, 4, 100):
        np.testing.assert_array_equal(predictions(classifier, images, batch_size), ANSWERS)
        assert accuracy(classifier, images, LABELS, batch_size) == pytest.approx(5 / 7)


def test_the_matrix_has_a_row_for_each_label_and_nothing_on_its_diagonal():
    matrix = measure()["success_matrix"]
    assert [row[i] for i, row in enumerate(matrix)] == [None] * 4
    assert matrix[0] == [None, 1.0, 1.0, 1.0]  # both images of label 0 can be moved
    assert matrix[1] == [0.0, None, 0.0, 0.0]
    assert matrix[2] == [None] * 4  # no image of label 2 is answered rightly
    assert matrix[3] == [1.0, 1.0, 1.0, None]


def test_only_the_target_classes_given_are_tried_and_never_the_label():
    asked = []

    def remember(images, classes):
        asked.append(classes.numpy())
        return attack(images, classes)

    result = measure(remember, target_classes=[0, 2])
    assert sorted(np.concatenate(asked)) == [0] * 3 + [2] * 5  # two of the five images have label 0
    assert result["num_attacks"] == 8
    assert result["success_by_class"] == {"a": 1 / 3, "b": None, "c": 3 / 5, "d": None}
    with pytest.raises(InputError, match="of the only target class"):
        measure(labels=np.zeros(7, np.int32), target_classes=[0])


def test_every_picture_is_handed_over_with_what_was_measured_of_it():
    kept = []
    result = measure(keep=kept.append)
    whole = {name: np.concatenate([batch[name] for batch in kept]) for name in kept[0]}
    assert whole["pictures"].dtype == np.uint8
    assert whole["pictures"].shape == (15, 1, 2, 1)
    np.testing.assert_array_equal(whole["label"], LABELS[whole["index"]])
    # From the pictures alone, as someone else would count.
    answers = np.argmax(classifier(whole["pictures"].astype(np.float32) / 255), axis=-1)
    np.testing.assert_array_equal(answers, whole["answer"])
    assert np.mean(answers == whole["class"]) == result["success_rate"]
    assert whole["l2"].mean() == pytest.approx(result["mean_l2"])


def test_attacks_on_the_same_images_share_one_trace_of_the_classifier():
    traces = []

    def traced(images):
        traces.append(images.shape)
        return classifier(images)

    examples = EvaluationSet(traced, make_images(ANSWERS, ATTACKABLE), LABELS, NAMES)
    first = evaluate_attack(attack, examples, 0.5, batch_size=3)
    seen = len(traces)
    # Another attack, another budget: nothing of it is compiled in.
    kept_in_place = evaluate_attack(lambda images, classes: images, examples, 0.25, batch_size=3)
    assert len(traces) == seen
    assert first["success_rate"] == pytest.approx(9 / 15)
    assert kept_in_place["success_rate"] == 0.0
    with pytest.raises(InputError, match=r"breaks the threat model: linf_float 0\.\d+ > 0\.1"):
        evaluate_attack(attack, examples, 0.1, batch_size=3)
    assert len(traces) == seen


def test_several_attacks_by_name_announce_themselves_only_on_request(capsys):
    arguments = (classifier, make_images(ANSWERS, ATTACKABLE), LABELS, 0.5)
    results = evaluate({"moves": attack, "stays": lambda images, classes: images}, *arguments)
    assert capsys.readouterr().out == ""
    assert {name: row["success_rate"] for name, row in results.items()} == pytest.approx({"moves": 0.6, "stays": 0.0})
    evaluate({"moves": attack}, *arguments, progress=True)
    assert "Measuring moves on 7 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (lambda x: x * 255, LABELS, r"images go from 0\.0 to 255\.0; expected pixels in \[0, 1\]"),
        (lambda x: x * np.nan, LABELS, "images hold NaN"),
        (lambda x: x[:0], LABELS[:0], r"of shape \(0, 1, 2, 1\); expected at least one"),
        (lambda x: x[..., 0], LABELS, r"of shape \(7, 1, 2\)"),
        (lambda x: x, LABELS[:, np.newaxis], r"of shape \(7, 1\); expected whole numbers, one for each of 7"),
        (lambda x: x, LABELS.astype(np.float32), "labels are float32"),
        (lambda x: x, LABELS + 1, "labels go from 1 to 4; expected 0 to 3"),
    ],
)
def test_images_and_labels_of_another_kind_are_named(images, labels, words):
    with pytest.raises(InputError, match=words):
        EvaluationSet(classifier, images(make_images(ANSWERS, ATTACKABLE)), labels, NAMES)


@pytest.mark.parametrize("epsilon", [0, -0.1, 8, float("nan")])
def test_an_epsilon_in_another_unit_is_refused(epsilon):
    with pytest.raises(InputError, match=rf"epsilon={epsilon}: expected a fraction of the pixel range"):
        measure(epsilon=epsilon)


def test_what_an_attack_gives_is_looked_at():
    with pytest.raises(InputError, match=r"of shape \(3, 2\) for \(3, 1, 2, 1\); expected the same"):
        measure(lambda images, classes: images[:, 0, :, 0])
    doubles = measure(lambda images, classes: attack(images, classes).numpy().astype(np.float64))
    assert doubles["success_rate"] == measure()["success_rate"]


def test_logits_that_are_none_are_refused():
    def nan_where_attacked(images):
        logits = classifier(images)
        clean = tf.reduce_any(tf.abs(images[:, 0, :1, 0] - (tf.range(4.0) + 0.5) / 10) < 1e-6, axis=1, keepdims=True)
        return tf.where(clean, logits, np.nan)

    with pytest.raises(InputError, match="answers NaN to an adversarial image"):
        measure(lambda images, classes: tf.maximum(images - 0.01, 0.0), nan_where_attacked)
    with pytest.raises(InputError, match=r"gives \(1, 4\) for one image; expected logits \(1, 5\)"):
        measure(names=(*NAMES, "another"))


def test_norms_of_successes_stand_apart_from_those_of_all():
    result = measure()
    assert result["mean_l2_of_successes"] > result["mean_l2"] > 0.0  # what could not be moved was left
    assert measure(lambda images, classes: images)["mean_l2_of_successes"] is None
    assert result["max_linf_float"] == pytest.approx(0.3, abs=1e-6)
