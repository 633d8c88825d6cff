"""Warnings about measured rates: gradient masking, weak baselines, rounding."""

from collections.abc import Mapping

import tensorflow as tf

from aigan_tf.classifiers.accuracy import NO_CLASS
from aigan_tf.engine.memory import images_per_call
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.method.targets import spread_targets

GRADIENT_EXAMPLES = 100
ROUNDING_LOSS_WARNING = 0.05  # share of an attack's successes that rounding to 8 bits may undo without a warning
HIDDEN_GRADIENTS = 0.1  # accuracy under fgsm minus accuracy under pgd, above which a defence is suspected


def mean_success(rows: Mapping[str, Mapping], names: tuple[str, ...]) -> dict[str, float]:
    """Returns the success rate of each named attack, averaged over the targets that all of them were measured on.

    Args:
        rows: name to `AttackResult.to_dict()`.
        names: of attacks in `rows`.

    Returns:
        Empty if they have no target in common.
    """
    rates = {name: rows[name]["success_by_class"] for name in names}
    common = [label for label in rates[names[0]] if all(rates[name][label] is not None for name in names)]
    return {name: sum(rates[name][label] for label in common) / len(common) for name in names} if common else {}


def comparison_warnings(rows: Mapping[str, Mapping]) -> list[str]:
    """Returns warnings if a weaker attack beats a stronger one, or if rounding to 8 bits undoes successes.

    Args:
        rows: name to `AttackResult.to_dict()`.
    """
    found = []
    for name in ("fgsm", "aigan", "aigan_stage1", "advgan"):
        means = mean_success(rows, (name, "pgd")) if {name, "pgd"} <= rows.keys() else {}
        if means and means[name] > means["pgd"]:
            reason = "the classifier may mask its gradients, and then no rate against it means much"
            if name != "fgsm":  # a generator learns from many images what pgd must find on each
                reason = f"pgd has too few steps here, or {reason}"
            found.append(
                f"{name} succeeds more often ({means[name]:.1%}) than pgd ({means['pgd']:.1%}), the stronger attack: {reason}."
            )
    if {"pgd", "cw"} <= rows.keys() and rows["pgd"]["success_rate_float"] > rows["cw"]["success_rate_float"]:
        found.append(
            f"pgd succeeds more often ({rows['pgd']['success_rate_float']:.1%} before rounding) than cw "
            f"({rows['cw']['success_rate_float']:.1%}), which has no epsilon: cw stops too early."
        )
    for name, row in rows.items():
        before, after = row["success_rate_float"], row["success_rate"]
        if before - after > ROUNDING_LOSS_WARNING * before:
            found.append(
                f"{name} succeeds on {before:.1%} before its images are rounded to 8 bits and on {after:.1%} after: they lie "
                "so close to the decision boundary that rounding undoes them."
            )
    return found


def nan_warnings(examples: EvaluationSet) -> list[str]:
    """Returns a warning if the classifier answers NaN to some of the images."""
    count = int((examples.answers == NO_CLASS).sum())
    if not count:
        return []
    return [f"the classifier answers NaN on {count} of {len(examples.images)} images, which counts as wrong."]


def gradient_masking_warnings(examples: EvaluationSet, targeted: bool) -> list[str]:
    """Returns a warning if the gradient that attacks follow is zero on some images.

    Args:
        examples: classifier and images; the first hundred that it gets right are checked, fewer if large.
        targeted: whether attacks descend the cross-entropy of a target, or ascend that of the label.
    """
    right = examples.first_correct(images_per_call(examples.images.shape[1:], GRADIENT_EXAMPLES))
    images, labels = tf.constant(right.images), tf.constant(right.labels)
    targets = spread_targets(labels, examples.target_classes) if targeted else labels
    with tf.GradientTape() as tape:
        tape.watch(images)
        # The loss of foolbox's attacks.
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, examples.classifier(images))
    zero = ~tf.reduce_any(tf.not_equal(tape.gradient(loss, images), 0.0), axis=[1, 2, 3])
    count = int(tf.reduce_sum(tf.cast(zero, tf.int32)))
    if not count:
        return []
    kind = "targeted" if targeted else "untargeted"
    return [
        f"the gradient that {kind} attacks follow is zero on {count} of {len(labels)} images: they cannot change those, and "
        "look weaker than they are."
    ]


def defence_warnings(fgsm: float, pgd: float) -> list[str]:
    """Returns a warning if the accuracies of a defended classifier under fgsm and pgd indicate gradient masking."""
    # Several steps always do more than one. If they undo most of what one leaves, that one step was misled.
    if fgsm > pgd + HIDDEN_GRADIENTS and pgd < fgsm / 2:
        return [
            f"{fgsm:.1%} accuracy under fgsm, but only {pgd:.1%} under pgd: a defence that withstands one step and fails "
            "against several may mask its gradients instead of resisting."
        ]
    if pgd > fgsm:
        return [
            f"{pgd:.1%} accuracy under pgd, but only {fgsm:.1%} under fgsm, the weaker attack: the gradients that pgd follows "
            "mislead it, which indicates gradient masking."
        ]
    return []
