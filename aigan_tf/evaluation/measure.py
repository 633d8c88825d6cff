"""Success rates and norms of an attack, counted so that they can be trusted."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from scipy.stats import binomtest
from tqdm import tqdm

from aigan_tf.classifiers.accuracy import predictions
from aigan_tf.errors import InputError
from aigan_tf.method.threat_model import apply_perturbation, l2_norms, linf_norms, quantize

ALL_TARGETS_UP_TO = 20  # classes; with more, each image gets MANY_TARGETS of the others
MANY_TARGETS = 10
ROUNDING = 1e-6  # float32's error in adding and subtracting pixels


def interval(successes: int, trials: int) -> list[float]:
    """Wilson's interval of 95 % for a rate, as if all trials were independent: its low and its high end."""
    return list(binomtest(successes, trials).proportion_ci(method="wilson"))


class EvaluationSet:
    """A classifier and the images it is attacked on; what all attacks on them have in common is computed once.

    Args:
        classifier: images in `[0, 1]` to logits, in inference mode.
        images: float32 `(n, height, width, channels)` in `[0, 1]`.
        labels: int32 `(n,)`.
        class_names: name of each class.
        split: name of the split, for the record.

    Raises:
        InputError: images or labels are of another kind.
    """

    def __init__(
        self,
        classifier: Callable[[tf.Tensor], tf.Tensor],
        images: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        split: str = "test",
    ):
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim != 4 or not len(images):
            raise InputError(
                f"images are {images.dtype} of shape {images.shape}; expected at least one, (n, height, width, channels): "
                "convert them"
            )
        least, greatest = images.min(), images.max()
        if not (least >= 0 and greatest <= 1):  # not <: NaN fails too
            found = f"go from {least} to {greatest}" if least <= greatest else "hold NaN"
            raise InputError(f"images {found}; expected pixels in [0, 1]: convert them")
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise InputError(
                f"labels are {labels.dtype} of shape {labels.shape}; expected whole numbers, one for each of {len(images)} "
                "images: convert them"
            )
        if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(class_names):
            raise InputError(
                f"labels go from {labels.min()} to {labels.max()}; expected 0 to {len(class_names) - 1}, one for each class: "
                "correct them or class_names"
            )
        self.classifier = classifier
        self.images = images.astype(np.float32, copy=False)
        self.labels = labels.astype(np.int32, copy=False)
        self.class_names = tuple(class_names)
        self.split = split
        # Traced once for all attacks and budgets; an attribute of the object, so that it goes with it.
        self.measure = tf.function(self._measure, reduce_retracing=True)

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """Which images the classifier gets right, bool `(n,)`.

        Raises:
            InputError: none of them.
        """
        shape = tuple(self.classifier(tf.constant(self.images[:1])).shape)
        if shape != (1, len(self.class_names)):
            raise InputError(
                f"the classifier gives {shape} for one image; expected logits (1, {len(self.class_names)}), one for each class: "
                "correct it or class_names"
            )
        correct = predictions(self.classifier, self.images) == self.labels
        if not correct.any():
            raise InputError(
                f"the classifier gets none of {len(correct)} images right; expected at least one to attack: check its input "
                "range and the order of its classes, or take more images"
            )
        return correct

    def first_correct(self, count: int) -> "EvaluationSet":
        """Returns the set of the first `count` images that the classifier gets right, or of all of them."""
        kept = np.flatnonzero(self.correct)[:count]
        return EvaluationSet(self.classifier, self.images[kept], self.labels[kept], self.class_names, self.split)

    def _measure(self, clean, adversarial, budget):
        """A batch's answers, norms and 8-bit pictures."""
        window = min(11, *self.images.shape[1:3])  # of the structural similarity; 11 pixels as published
        clean_8bit, pictures = quantize(clean, adversarial, budget)
        clean_8bit, adversarial_8bit = (tf.cast(x, tf.float32) / 255.0 for x in (clean_8bit, pictures))
        logits_float, logits = self.classifier(adversarial), self.classifier(adversarial_8bit)
        return {
            "answer_float": tf.argmax(logits_float, -1, tf.int32),
            "answer": tf.argmax(logits, -1, tf.int32),
            "answered": ~tf.reduce_any(tf.math.is_nan(logits_float) | tf.math.is_nan(logits), axis=-1),
            "l2": l2_norms(adversarial_8bit - clean_8bit),
            "linf": linf_norms(adversarial_8bit - clean_8bit),
            "linf_float": linf_norms(adversarial - clean),
            "ssim": tf.image.ssim(clean_8bit, adversarial_8bit, 1.0, filter_size=window),
            "outside": tf.reduce_max(tf.maximum(-adversarial, adversarial - 1.0), axis=[1, 2, 3]),
            "pictures": pictures,
        }


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack and what may be asked of it.

    Args:
        run: `(images, classes)` to adversarial images, as in `evaluate_attack`.
        description: its settings, for the record.
        targets_per_image: how many targets each image is driven to; 0 for all, or 10 of many.
        target_classes: the only targets it knows; None for all.
        bounded: whether it keeps within epsilon; else it is measured as it is, and moved into epsilon.
    """

    run: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
    description: str = ""
    targets_per_image: int = 0
    target_classes: Sequence[int] | None = None
    bounded: bool = True


def evaluate(
    attacks: Mapping[str, Attack | Callable],
    classifier: Callable[[tf.Tensor], tf.Tensor],
    images: np.ndarray,
    labels: np.ndarray,
    epsilon: float,
    *,
    class_names: Sequence[str] | None = None,
    targeted: bool = True,
    split: str = "test",
    seed: int = 0,
    batch_size: int = 100,
    keep: Callable[[str, dict[str, np.ndarray]], None] | None = None,
    progress: bool = False,
) -> dict[str, dict]:
    """Measures several attacks on the same images.

    Args:
        attacks: name to `Attack`, or to any callable from images and classes to adversarial images.
        classifier, images, labels, split: as in `EvaluationSet`.
        class_names: name of each class; None numbers those that the classifier has.
        epsilon, targeted, seed, batch_size: as in `evaluate_attack`.
        keep: called with the attack's name and what `evaluate_attack` hands its own `keep`.
        progress: whether each attack is announced, and its progress shown where standard error is a terminal.

    Returns:
        Name to what `evaluate_attack` returns, plain data. An attack that is not bounded has a second entry, of
        its images moved into epsilon.
    """
    if class_names is None:
        class_names = [str(k) for k in range(int(classifier(tf.constant(images[:1])).shape[-1]))]
    examples = EvaluationSet(classifier, images, labels, class_names, split)
    return evaluate_attacks(attacks, examples, epsilon, targeted, seed, batch_size, keep, progress)


def evaluate_attacks(
    attacks: Mapping[str, Attack | Callable],
    examples: EvaluationSet,
    epsilon: float,
    targeted: bool = True,
    seed: int = 0,
    batch_size: int = 100,
    keep: Callable[[str, dict[str, np.ndarray]], None] | None = None,
    progress: bool = False,
) -> dict[str, dict]:
    """`evaluate` on a set that may serve again."""
    results = {}

    def measure(name, run, attack, bounded):
        results[name] = evaluate_attack(
            run, examples, epsilon, targeted, seed, batch_size, attack.targets_per_image, attack.target_classes, bounded,
            progress=name if progress else None, keep=functools.partial(keep, name) if keep else None,
        )  # fmt: skip

    for name, attack in attacks.items():
        attack = attack if isinstance(attack, Attack) else Attack(attack)
        if progress:
            print(f"Measuring {name} on {len(examples.images)} images: {attack.description}.", flush=True)
        if attack.bounded:
            measure(name, attack.run, attack, True)
            continue
        remembered = CachedAttack(attack.run)
        measure(name, remembered, attack, False)
        moved = f"{name}, moved into epsilon"
        measure(moved, remembered.projected_into(epsilon), attack, True)
        results[moved]["milliseconds_per_image"] = results[name]["milliseconds_per_image"]
    return results


class CachedAttack:
    """An attack whose answers are kept, so that the same pictures can be measured again, moved into a budget."""

    def __init__(self, attack: Callable):
        self.attack = attack
        self.answers = []

    def __call__(self, images, classes):
        self.answers.append(self.attack(images, classes))
        return self.answers[-1]

    def projected_into(self, epsilon: float) -> Callable:
        """Returns an attack that answers the same images, asked for in the same order."""
        answers = iter(self.answers)
        return lambda images, classes: apply_perturbation(images, next(answers) - images, epsilon)


def evaluate_attack(
    attack: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    examples: EvaluationSet,
    epsilon: float,
    targeted: bool = True,
    seed: int = 0,
    batch_size: int = 500,
    targets_per_image: int = 0,
    target_classes: Sequence[int] | None = None,
    bounded: bool = True,
    progress: str | None = None,
    keep: Callable[[dict[str, np.ndarray]], None] | None = None,
) -> dict:
    """Attacks every image the classifier gets right and counts.

    Targeted: towards each of the other classes, or towards `targets_per_image` of them drawn for
    each image (10 where there are more than 20 classes). A success is a picture that, quantised to
    8 bits, is answered with the target.

    Args:
        attack: `(images, classes)` to adversarial images; `classes` are targets, or labels if untargeted.
        examples: the classifier and the images.
        epsilon: L-infinity budget as a fraction of the pixel range; exceeding it is an error.
        targeted: kind of attack.
        seed: decides the drawn targets.
        batch_size: images a batch; the last, partial batch is counted too.
        targets_per_image: how many targets each image is driven to; 0 for all, or 10 of many.
        target_classes: drive every image to these alone (but not to its label); None for no such limit.
        bounded: whether the attack promises to stay within `epsilon`; else that is not checked, and its
            8-bit pictures are the nearest of all.
        progress: caption of a progress bar, shown where standard error is a terminal; None for none.
        keep: called with each batch of attacks: `index` (into `images`), `label`, `class` (asked for), `answer`,
            `l2`, `linf` and `ssim` `(batch,)`, and `pictures`, uint8 `(batch, height, width, channels)`.

    Returns:
        Rates, norms and counts by name, ready for JSON; `success_interval` is Wilson's of 95 %, as if all
        attacks were independent. `success_matrix` (targeted, up to 20 classes) has a row for each label and a
        column for each target; None where nothing was tried.

    Raises:
        InputError: there is nothing to attack, or an adversarial image breaks the threat model.
    """
    if not 0 < epsilon <= 1:
        raise InputError(
            f"epsilon={epsilon}: expected a fraction of the pixel range, above 0 and at most 1; give e.g. {8 / 255:.4f}"
        )
    images, labels, class_names, correct = examples.images, examples.labels, examples.class_names, examples.correct
    num_classes = len(class_names)
    attacked, tried = _attacks_to_try(
        labels, np.flatnonzero(correct), num_classes, targeted, seed, targets_per_image, target_classes
    )
    if not len(tried):
        raise InputError(
            f"all {correct.sum()} images that the classifier gets right are of the only target class; expected some of "
            "another to attack: take more images"
        )
    budget = epsilon if bounded else 1.0
    measure = functools.partial(examples.measure, budget=tf.constant(budget, tf.float32))
    batches, seconds = [], []
    starts = range(0, len(tried), batch_size)
    for start in tqdm(starts, desc=progress, unit="batch", leave=False, disable=None if progress else True):
        chosen = slice(start, start + batch_size)
        index = attacked[chosen]
        clean = tf.constant(images[index])
        began = time.perf_counter()
        adversarial = attack(clean, tf.constant(tried[chosen]))
        adversarial = np.asarray(adversarial)  # blocks until it is there
        if adversarial.shape != clean.shape:
            raise InputError(
                f"the attack gives images of shape {adversarial.shape} for {tuple(clean.shape)}; expected the same: correct it"
            )
        adversarial = tf.constant(adversarial, tf.float32)
        seconds.append((time.perf_counter() - began) / len(clean))
        batch = {name: value.numpy() for name, value in measure(clean, adversarial).items()}
        for name, limit in (("linf", budget), ("linf_float", budget), ("outside", 0.0)):
            if not batch[name].max() <= limit + ROUNDING:  # not <=: NaN fails too
                raise InputError(
                    f"an adversarial image breaks the threat model: {name} {batch[name].max()} > {limit}; expected images in "
                    "[0, 1] and within epsilon: correct the attack, or train the generator again"
                )
        if not batch.pop("answered").all():
            raise InputError(
                "the classifier answers NaN to an adversarial image; expected logits: correct the classifier"
            )
        if keep:
            keep({"index": index, "label": labels[index], "class": tried[chosen], **batch})
        del batch["pictures"]  # ten thousand images towards nine targets would not fit
        batches.append(batch)
    measured = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}

    sources = labels[attacked]
    hit = (measured["answer"] == tried) == targeted
    hit_float = (measured["answer_float"] == tried) == targeted
    by_class = [float(hit[tried == k].mean()) if (tried == k).any() else None for k in range(num_classes)]
    result = {
        "attack": "targeted" if targeted else "untargeted",
        "split": examples.split,
        "seed": seed,
        "epsilon": epsilon,
        "num_examples": len(images),
        "num_correct": int(correct.sum()),
        "clean_accuracy": float(correct.mean()),
        "num_attacks": len(hit),
        "success_rate": float(hit.mean()),
        "success_interval": interval(int(hit.sum()), len(hit)),
        "success_rate_float": float(hit_float.mean()),
        "untargeted_success_rate": float((measured["answer"] != sources).mean()),
        "success_by_class": dict(zip(class_names, by_class, strict=True)),
        "mean_l2": float(measured["l2"].mean()),
        "mean_l2_of_successes": float(measured["l2"][hit].mean()) if hit.any() else None,
        "max_linf": float(measured["linf"].max()),
        "max_linf_float": float(measured["linf_float"].max()),
        "mean_ssim": float(measured["ssim"].mean()),
        # Without the first batch, in which graphs are traced, where there are others.
        "milliseconds_per_image": float(np.median(seconds[1:] or seconds)) * 1000,
    }
    if targeted:
        worst = min((k for k in range(num_classes) if by_class[k] is not None), key=lambda k: by_class[k])
        result |= {"worst_target": class_names[worst], "worst_target_success_rate": by_class[worst]}
        if num_classes <= ALL_TARGETS_UP_TO:
            result["success_matrix"] = [
                [float(hit[pair].mean()) if (pair := (sources == row) & (tried == column)).any() else None
                 for column in range(num_classes)]
                for row in range(num_classes)
            ]  # fmt: skip
    return result


def _attacks_to_try(labels, attacked, num_classes, targeted, seed, targets_per_image, target_classes):
    """Returns two int arrays `(attacks,)`: the image, and the class to ask for (the label itself if untargeted).

    All images' first targets come before all second ones, so that a batch holds many classes; but for `target_classes`,
    which come one after the other.
    """
    if not targeted:
        return attacked, labels[attacked]
    if target_classes is not None:
        classes = np.tile(np.array(target_classes, np.int32), (len(attacked), 1))
    else:
        offsets = np.tile(np.arange(1, num_classes, dtype=np.int32), (len(attacked), 1))
        count = targets_per_image or (MANY_TARGETS if num_classes > ALL_TARGETS_UP_TO else num_classes - 1)
        if count < num_classes - 1:
            offsets = np.random.default_rng(seed).permuted(offsets, axis=1)[:, :count]
        classes = (labels[attacked][:, np.newaxis] + offsets) % num_classes
    index, classes = np.tile(attacked, classes.shape[1]), classes.T.ravel()
    allowed = classes != labels[index]
    return index[allowed], classes[allowed]
