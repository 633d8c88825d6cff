"""Measures attacks: success rates, norms and times on the images that a classifier gets right."""

import dataclasses
import functools
import math
import numbers
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from aigan_tf import terminal
from aigan_tf.engine.memory import images_per_call
from aigan_tf.errors import InputError, say
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.results import AttackResult, wilson_interval
from aigan_tf.method.threat_model import apply_perturbation

ALL_TARGETS_UP_TO = 20  # classes; with more, each image gets MANY_TARGETS of the others
MANY_TARGETS = 10
MAX_VALUES = 10_000 * MANY_TARGETS * 64 * 64 * 3  # of the images of all attacks, unless the number of images was chosen
ROUNDING = 1e-6  # float32's error in adding and subtracting pixels


def targets_per_image(known: int) -> int:
    """Returns how many targets an image is attacked towards if there are so many, its label among them or not."""
    return MANY_TARGETS if known > ALL_TARGETS_UP_TO else known


def max_attacks(image_shape: Sequence[int]) -> int:
    """Returns how many attacks on images of `(height, width, channels)` are measured at most; more take an hour."""
    return max(MAX_VALUES // math.prod(image_shape), 1)


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack and what it can be asked for.

    Args:
        run: images float32 `(batch, height, width, channels)` in `[0, 1]` and targets int32 `(batch,)` (labels if
            untargeted) to adversarial images.
        description: its settings, for the record.
        targets_per_image: how many targets, drawn per image, it is measured on; 0 for all, or 10 if there are more than
            20 classes.
        target_classes: the only targets it knows, of those of the images; None for all.
        bounded: whether it promises to stay within epsilon. Otherwise that is not checked and its 8-bit images are the
            nearest ones; `measure_attacks` then measures them moved into epsilon too.
    """

    run: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    description: str = ""
    targets_per_image: int = 0
    target_classes: Sequence[int] | None = None
    bounded: bool = True


def measure_attacks(
    attacks: Mapping[str, Attack | Callable],
    examples: EvaluationSet,
    epsilon: float,
    targeted: bool = True,
    seed: int = 0,
    batch_size: int = 100,
    *,
    keep: Callable[[str, dict[str, np.ndarray]], None] | None = None,
    progress: bool = False,
) -> dict[str, AttackResult]:
    """Measures several attacks on the same images.

    Args:
        attacks: name to `Attack`, or to any callable from images and targets to adversarial images.
        examples, epsilon, targeted, seed, batch_size: as in `measure_attack`.
        keep: called with the attack's name and what `measure_attack` hands its own `keep`.
        progress: whether each attack is announced, with a progress bar if standard error is a terminal.

    Returns:
        Name to what was measured. An attack that is not bounded has a second entry, of its images moved into epsilon.

    Raises:
        InputError: as in `measure_attack`.
    """
    results = {}

    def measure(name, attack):
        results[name] = measure_attack(
            attack, examples, epsilon, targeted, seed, batch_size,
            progress=name if progress else None, keep=functools.partial(keep, name) if keep else None,
        )  # fmt: skip

    for name, attack in attacks.items():
        attack = attack if isinstance(attack, Attack) else Attack(attack)
        if progress:
            say(f"Measuring {name} on {len(examples.images)} images: {attack.description}.")
        if attack.bounded:
            measure(name, attack)
            continue
        cached = CachedAttack(attack.run)
        measure(name, dataclasses.replace(attack, run=cached))
        moved = f"{name}, moved into epsilon"
        measure(moved, dataclasses.replace(attack, run=cached.projected_into(epsilon), bounded=True))
        results[moved] = dataclasses.replace(
            results[moved], milliseconds_per_image=results[name].milliseconds_per_image
        )
    return results


class CachedAttack:
    """An attack that keeps its adversarial images, so that they can be measured again, moved into a budget."""

    def __init__(self, run: Callable):
        self.run = run
        self.answers = []

    def __call__(self, images, targets):
        self.answers.append(self.run(images, targets))
        return self.answers[-1]

    def projected_into(self, epsilon: float) -> Callable:
        """Returns an attack that gives the kept images within `epsilon`, if called with the same images in order."""
        answers = iter(self.answers)
        return lambda images, targets: apply_perturbation(images, next(answers) - images, epsilon)


def measure_attack(
    attack: Attack | Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    examples: EvaluationSet,
    epsilon: float,
    targeted: bool = True,
    seed: int = 0,
    batch_size: int = 500,
    *,
    progress: str | None = None,
    keep: Callable[[dict[str, np.ndarray]], None] | None = None,
) -> AttackResult:
    """Attacks every image the classifier gets right and counts successes, after rounding to 8 bits.

    Args:
        attack: an `Attack`, or any callable from images and targets to adversarial images within `epsilon`.
        examples: the classifier and the images.
        epsilon: L-infinity budget as a fraction of the pixel range; an attack that exceeds it is an error.
        targeted: whether to reach each of the other classes, or to leave the label.
        seed: decides the drawn targets.
        batch_size: attacks per batch, fewer if images are large; the last, partial batch is counted too.
        progress: caption of a progress bar, shown if standard error is a terminal; None for none.
        keep: called with each batch of attacks: `index` (into `images`), `label`, `target` (the label if untargeted),
            `answer`, `l2`, `linf` and `ssim` `(batch,)`, and `pictures`, uint8 `(batch, height, width, channels)`.

    Raises:
        InputError: there is nothing to attack, or an adversarial image breaks the threat model.
    """
    if not (isinstance(epsilon, numbers.Real) and 0 < epsilon <= 1):
        is_levels = isinstance(epsilon, numbers.Real) and 1 < epsilon <= 255
        fix = f"{epsilon:g} grey levels are {epsilon:g} / 255" if is_levels else "give a number, e.g. 8 / 255"
        raise InputError(epsilon, "a fraction of the pixel range, above 0 and at most 1", fix, setting="epsilon")
    attack = attack if isinstance(attack, Attack) else Attack(attack)
    index, targets = _images_and_targets(attack, examples, targeted, seed)
    possible = len(index)
    if examples.max_attacks and possible > examples.max_attacks:
        drawn = np.sort(np.random.default_rng(seed).choice(possible, examples.max_attacks, replace=False))
        index, targets = index[drawn], targets[drawn]
    batch_size = images_per_call(examples.images.shape[1:], batch_size)
    batches, seconds = [], []
    starts = range(0, len(index), batch_size)
    for start in terminal.progress(starts, progress, " batches") if progress else starts:
        chosen = slice(start, start + batch_size)
        batch, spent = _measured_batch(attack, examples, epsilon, index[chosen], targets[chosen])
        seconds.append(spent / len(batch["index"]))
        if keep:
            keep(batch)
        # Without the images: those of ten thousand with nine targets each would not fit.
        batches.append({name: value for name, value in batch.items() if name != "pictures"})
    measured = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    # Without the first batch, in which graphs are traced, if there are others.
    milliseconds = float(np.median(seconds[1:] or seconds)) * 1000
    result = _result(measured, milliseconds, examples, epsilon, targeted, seed)
    return dataclasses.replace(result, drawn_from=possible) if possible > len(index) else result


def _images_and_targets(attack, examples, targeted, seed):
    """Returns two int arrays `(attacks,)`: the image, and its target (the label if untargeted).

    The first targets of all images come before all second ones, so that a batch holds many classes; where only some classes
    are targets, one comes after the other.
    """
    right, num_classes = np.flatnonzero(examples.correct), len(examples.class_names)
    labels = examples.labels[right]
    if not targeted:
        return right, labels
    known = attack.target_classes or examples.target_classes
    count = attack.targets_per_image or targets_per_image(len(known))
    draw = np.random.default_rng(seed).permuted
    if len(known) < num_classes:
        targets = np.tile(np.array(known, np.int32), (len(right), 1))
        targets = draw(targets, axis=1)[:, :count] if count < len(known) else targets
    else:
        offsets = np.tile(np.arange(1, num_classes, dtype=np.int32), (len(right), 1))
        offsets = draw(offsets, axis=1)[:, :count] if count < num_classes - 1 else offsets
        targets = (labels[:, np.newaxis] + offsets) % num_classes
    index, targets = np.tile(right, targets.shape[1]), targets.T.ravel()
    allowed = targets != examples.labels[index]
    if not allowed.any():
        raise InputError(
            f"all {len(right)} images that the classifier gets right are of the only target class",
            "some of another class to attack",
            "take more images",
        )
    return index[allowed], targets[allowed]


def _measured_batch(attack, examples, epsilon, index, targets):
    """Returns what was measured of a batch by name, and the seconds the attack took."""
    clean = tf.constant(examples.images[index])
    began = time.perf_counter()
    adversarial = np.asarray(attack.run(clean, tf.constant(targets)))  # blocks until it is computed
    seconds = time.perf_counter() - began
    if adversarial.shape != clean.shape:
        raise InputError(
            f"the attack gives images of shape {adversarial.shape} for {tuple(clean.shape)}",
            "the same shape",
            "return an image for each that the attack is given",
        )
    budget = epsilon if attack.bounded else 1.0
    measured = examples.measure(clean, tf.constant(adversarial, tf.float32), tf.constant(budget, tf.float32))
    batch = {name: value.numpy() for name, value in measured.items()}
    for name, limit in (("linf", budget), ("linf_float", budget), ("outside", 0.0)):
        if not batch[name].max() <= limit + ROUNDING:  # not >: NaN fails too
            raise InputError(
                f"an adversarial image breaks the threat model: {name} {batch[name].max()} > {limit}",
                "images in [0, 1] and within epsilon",
                "clip what the attack returns to [0, 1] and to epsilon around the images",
            )
    if not batch.pop("answered").all():
        raise InputError(
            "the classifier answers NaN to an adversarial image",
            "finite logits",
            "check its layers that divide or take logarithms",
        )
    return {"index": index, "label": examples.labels[index], "target": targets, **batch}, seconds


def _result(measured, milliseconds, examples, epsilon, targeted, seed):
    labels, targets, names = measured["label"], measured["target"], examples.class_names
    classes = range(len(names))
    hit = (measured["answer"] == targets) == targeted
    hit_float = (measured["answer_float"] == targets) == targeted
    by_class = [_rate(hit, targets == k) for k in classes]
    optional = {} if examples.labelled else {"labels": "classifier"}
    if targeted:
        worst = min((k for k in classes if by_class[k] is not None), key=lambda k: by_class[k])
        optional |= {"worst_target": names[worst], "worst_target_success_rate": by_class[worst]}
        if len(names) <= ALL_TARGETS_UP_TO:
            optional["success_matrix"] = [
                [_rate(hit, (labels == row) & (targets == column)) for column in classes] for row in classes
            ]
    return AttackResult(
        attack="targeted" if targeted else "untargeted",
        split=examples.split,
        seed=seed,
        epsilon=epsilon,
        num_examples=len(examples.images),
        num_correct=int(examples.correct.sum()),
        clean_accuracy=float(examples.correct.mean()) if examples.labelled else None,
        num_attacks=len(hit),
        success_rate=float(hit.mean()),
        success_interval=wilson_interval(int(hit.sum()), len(hit)),
        success_rate_float=float(hit_float.mean()),
        untargeted_success_rate=float((measured["answer"] != labels).mean()),
        success_by_class=dict(zip(names, by_class, strict=True)),
        mean_l2=float(measured["l2"].mean()),
        mean_l2_of_successes=float(measured["l2"][hit].mean()) if hit.any() else None,
        max_linf=float(measured["linf"].max()),
        max_linf_float=float(measured["linf_float"].max()),
        mean_ssim=float(measured["ssim"].mean()),
        milliseconds_per_image=milliseconds,
        **optional,
    )


def _rate(hit, attacks):
    """The share of hits among some of the attacks; None if there are none."""
    return float(hit[attacks].mean()) if attacks.any() else None
