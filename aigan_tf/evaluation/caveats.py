"""What makes a measured rate worth less than it looks, as sentences for who reads it."""

from collections.abc import Mapping

import tensorflow as tf

from aigan_tf.evaluation.measure import EvaluationSet
from aigan_tf.method.targets import spread_targets

GRADIENT_EXAMPLES = 100
ROUNDING_LOSS_WARNING = (
    0.05  # share of the successes before rounding to 8 bits from which on it is said that rounding undoes them
)
HIDDEN_GRADIENTS = 0.1  # accuracy that fgsm leaves and pgd takes away, from which on a defence is doubtful


def mean_success(rows: Mapping[str, Mapping], names: tuple[str, ...]) -> dict[str, float]:
    """Returns each attack's success, as the mean over the classes that all of them were asked for.

    Args:
        rows: name to what `evaluate_attack` returns.
        names: of the attacks.
    """
    rates = {name: rows[name]["success_by_class"] for name in names}
    common = [label for label in rates[names[0]] if all(rates[name][label] is not None for name in names)]
    return {name: sum(rates[name][label] for label in common) / len(common) for name in names} if common else {}


def comparison_warnings(rows: Mapping[str, Mapping]) -> list[str]:
    """Returns where a weaker attack beats a stronger one, and where rounding to 8 bits undoes what an attack found.

    Args:
        rows: name to what `evaluate_attack` returns.
    """
    found = []
    for name in ("fgsm", "aigan", "aigan_stage1", "advgan"):
        means = mean_success(rows, (name, "pgd")) if {name, "pgd"} <= rows.keys() else {}
        if means and means[name] > means["pgd"]:
            reason = "the classifier may hide its gradients, so that no rate against it means much"
            if name != "fgsm":  # it has learned from many images what pgd must find out on each
                reason = f"pgd has too few steps here, or {reason}"
            found.append(
                f"{name} succeeds more often ({means[name]:.1%}) than pgd ({means['pgd']:.1%}), the stronger attack; {reason}."
            )
    if {"pgd", "cw"} <= rows.keys() and rows["pgd"]["success_rate_float"] > rows["cw"]["success_rate_float"]:
        found.append(
            f"pgd succeeds more often ({rows['pgd']['success_rate_float']:.1%} before rounding) than cw "
            f"({rows['cw']['success_rate_float']:.1%}), which knows no epsilon: cw is stopped too early."
        )
    for name, row in rows.items():
        before, after = row["success_rate_float"], row["success_rate"]
        if before - after > ROUNDING_LOSS_WARNING * before:
            found.append(
                f"{name} succeeds on {before:.1%} before its pictures are rounded to 8 bits and on {after:.1%} after: they lie so "
                "close to the class's boundary that rounding undoes them."
            )
    return found


def gradient_masking_warnings(examples: EvaluationSet, targeted: bool) -> list[str]:
    """Returns whether the loss that attacks follow has no gradient at some of the images.

    Args:
        examples: classifier and images; the first hundred are looked at that it gets right.
        targeted: whether it is the cross-entropy of another class, to be reached, or of the label, to be left.
    """
    right = examples.first_correct(GRADIENT_EXAMPLES)
    images, labels = tf.constant(right.images), tf.constant(right.labels)
    classes = spread_targets(labels, len(examples.class_names)) if targeted else labels
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
            classes, examples.classifier(images)
        )  # as foolbox's attacks
    zero = ~tf.reduce_any(tf.not_equal(tape.gradient(loss, images), 0.0), axis=[1, 2, 3])
    count = int(tf.reduce_sum(tf.cast(zero, tf.int32)))
    if not count:
        return []
    kind = "targeted" if targeted else "untargeted"
    return [
        f"the gradient that {kind} attacks follow is zero on {count} of {len(labels)} images: they cannot move those, and look "
        "weaker than they are."
    ]


def defence_warnings(fgsm: float, pgd: float) -> list[str]:
    """Returns whether the accuracies that fgsm and pgd leave a defended classifier speak of hidden gradients."""
    # Several steps always do more than one; where they undo most of what one leaves, that one step was misled.
    if fgsm > pgd + HIDDEN_GRADIENTS and pgd < fgsm / 2:
        return [
            f"{fgsm:.1%} accurate under fgsm, but only {pgd:.1%} under pgd: what withstands one step falls to several, as where "
            "a defence hides its gradients rather than resisting."
        ]
    if pgd > fgsm:
        return [
            f"{pgd:.1%} accurate under pgd, and only {fgsm:.1%} under fgsm, the weaker attack: pgd's gradients mislead it, as where "
            "a defence hides them."
        ]
    return []
