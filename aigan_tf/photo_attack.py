"""Attacks single pictures for the attack command and the demo page: answers, files and figures."""

import dataclasses
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from aigan_tf.attack_plan import AttackPlan
from aigan_tf.classifiers.paths import refuse_unnamed_python
from aigan_tf.classifiers.training import existing_classifier
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.data.pictures import as_png, size_of_change
from aigan_tf.data.splits import Split
from aigan_tf.engine.memory import images_per_call
from aigan_tf.errors import InputError, say, shown_value
from aigan_tf.evaluation import figures
from aigan_tf.evaluation.tables import aligned
from aigan_tf.exported import ExportInfo
from aigan_tf.files import atomic_folder, write_bytes
from aigan_tf.flags import WIDTH
from aigan_tf.method.threat_model import quantize
from aigan_tf.trained_generator import load_generator
from aigan_tf.workdir import Workdir, config_of

MAX_COLUMNS = 20  # of a figure


@dataclasses.dataclass(frozen=True)
class AttackedPicture:
    """The result of an attack on one picture.

    Args:
        clean, adversarial: uint8 `(height, width, channels)`; the adversarial one is within `epsilon` of the clean one.
        target: the class to reach; of an untargeted generator the label.
        targeted: whether `target` is to be reached.
        class_names: name of each class.
        epsilon: the budget, a fraction of the pixel range.
        clean_answers, adversarial_answers: the classifier's probabilities for these 8-bit pictures, float32 `(classes,)`;
            None if the classifier is not known.
    """

    clean: np.ndarray
    adversarial: np.ndarray
    target: int
    targeted: bool
    class_names: Sequence[str]
    epsilon: float
    clean_answers: np.ndarray | None
    adversarial_answers: np.ndarray | None

    @property
    def largest_change(self) -> int:
        """The largest change of a channel of a pixel, in grey levels of 255."""
        return size_of_change(self.clean, self.adversarial)[0]

    @property
    def l2(self) -> float:
        """The L2 norm of the change, pixels in `[0, 1]`."""
        return size_of_change(self.clean, self.adversarial)[1]

    @property
    def succeeds(self) -> bool:
        """Whether the answer is the target or, untargeted, is not the label."""
        return (int(self.adversarial_answers.argmax()) == self.target) == self.targeted

    @property
    def is_trivial(self) -> bool:
        """Whether the clean picture has this success already."""
        return (int(self.clean_answers.argmax()) == self.target) == self.targeted

    @property
    def magnified(self) -> np.ndarray:
        """The change as a picture, float32 in `[0, 1]`: mid-grey for none, black and white for `epsilon`."""
        clean, adversarial = (each.astype(np.float32) / 255 for each in (self.clean, self.adversarial))
        return np.clip(figures.magnified(clean, adversarial, self.epsilon), 0, 1)

    def answer(self, answers: np.ndarray) -> str:
        """Returns the class of the largest probability, and that in per cent."""
        return f"{self.class_names[answers.argmax()]} ({100 * answers.max():.1f} %)"

    def summary(self) -> str:
        """Returns the answers and the size of the change, in a sentence or two."""
        size = f"Largest change {self.largest_change}/255, L2 {self.l2:.2f}."
        if self.clean_answers is None:
            return size
        before, after = self.clean_answers.argmax(), self.adversarial_answers.argmax()
        verb = "stays" if before == after else "becomes"
        note = "" if self.succeeds or not self.targeted else f", not {self.class_names[self.target]}"
        note = ", the target already" if self.targeted and self.is_trivial else note
        return f"{self.answer(self.clean_answers)} {verb} {self.answer(self.adversarial_answers)}{note}. {size}"


class PictureAttacker:
    """A generator with the classifier that it was trained against.

    Args:
        export: the generator.
        custom_objects: Python files that the run may execute, as in `refuse_unnamed_python`.

    Raises:
        InputError: generator or classifier cannot be loaded.
    """

    def __init__(self, export: ExportInfo, custom_objects: Sequence[str] = ()):
        self.export = export
        self.generator = load_generator(export.path)
        self._classifier = self._find_classifier(custom_objects)

    @property
    def knows_answers(self) -> bool:
        """Whether the classifier is known."""
        return self._classifier is not None

    def __call__(
        self, pixels: np.ndarray, classes: Sequence[int] | None, epsilon: float | None = None
    ) -> list[AttackedPicture]:
        """Attacks pictures, rounds the results to 8 bits, and asks the classifier about these.

        Args:
            pixels: uint8 `(n, height, width, channels)`.
            classes: one per picture: the target, or of an untargeted generator the label; None for the classifier's answer.
            epsilon: budget as a fraction of the pixel range; None for the largest.

        Raises:
            InputError: `classes` are None and the classifier is not known.
        """
        answers = self._answers(pixels)
        if classes is None and answers is None:
            raise InputError(
                f"the classes of the pictures are not known, nor is the classifier of {self.export.path}",
                "the class of the pictures",
                "give `label`",
            )
        classes = answers.argmax(axis=-1) if classes is None else np.asarray(classes)
        budget = self.export.epsilon if epsilon is None else min(epsilon, self.export.epsilon)
        adversarial_images = self.generator(pixels, classes, None if epsilon is None else budget)
        _, adversarial = quantize(pixels.astype(np.float32) / 255, adversarial_images, budget)
        adversarial = adversarial.numpy()
        after = self._answers(adversarial)
        return [
            AttackedPicture(
                pixels[i],
                adversarial[i],
                int(classes[i]),
                self.export.targeted,
                self.export.class_names,
                budget,
                None if answers is None else answers[i],
                None if after is None else after[i],
            )
            for i in range(len(pixels))
        ]

    def _answers(self, pixels):
        """Returns the classifier's probabilities, float32 `(n, classes)`; None if it is not known."""
        if self._classifier is None:
            return None
        step = images_per_call(self.export.image_shape)
        batches = [pixels[start : start + step] for start in range(0, len(pixels), step)]
        return np.concatenate([tf.nn.softmax(self._classifier(tf.constant(b, tf.float32) / 255)) for b in batches])

    def _find_classifier(self, custom_objects) -> Callable | None:
        """Returns the classifier as images in `[0, 1]` to logits; None if neither the export nor a run's folder has it."""
        if "classify" in self.generator.signatures:
            return self.generator.module.logits
        folder = Workdir(self.export.version.parents[1])  # that of the run, if it lies in one: RUN/generator/VERSION
        if not folder.config.exists():
            return None
        config = config_of(folder)
        refuse_unnamed_python(config, folder, custom_objects)
        # The classifier is tried on noise, since its own data set may not be here.
        noise = np.random.default_rng(0).integers(0, 256, (16, *self.export.image_shape), np.uint8)
        split = Split(noise, np.zeros(len(noise), np.int32))
        dataset = ImageDataset(config.dataset, self.export.class_names, split, split, split)
        return existing_classifier(config, dataset, folder, needs_gradient=False)


def attack_pictures(plan: AttackPlan, custom_objects: Sequence[str] = ()) -> list[AttackedPicture]:
    """Runs the attack command: prints the answers, writes the pictures and figures.

    Raises:
        InputError: the generator or its classifier cannot be used, or the files cannot be written.
    """
    attacker = PictureAttacker(plan.export, custom_objects)
    if not attacker.knows_answers:
        say("The classifier is not part of this export, so its answers are not known.")
    counts = len(plan.classes or [None])
    classes = None if plan.classes is None else plan.classes * len(plan.names)
    results = attacker(np.repeat(plan.pixels, counts, axis=0), classes, plan.epsilon)
    by_picture = [results[start : start + counts] for start in range(0, len(results), counts)]
    for name, changes, row in zip(plan.names, plan.changes, by_picture, strict=True):
        if changes:
            say(_wrapped(f"{name}: {changes}."))
        say(_lines(name, row))
    if plan.is_single:
        write_bytes(plan.out, as_png(results[0].adversarial))
        write_bytes(plan.figure, figure(results, _heading(plan)))
        say(f"Adversarial picture: {plan.out}; figure: {plan.figure}.")
        return results
    with atomic_folder(plan.out) as folder:
        for name, row in zip(plan.names, by_picture, strict=True):
            for result in row:
                (folder / f"{plan.result_name(name, result.target)}.png").write_bytes(as_png(result.adversarial))
            (folder / f"{name}_figure.png").write_bytes(figure(row, _heading(plan)))
    if attacker.knows_answers:
        tried = [result for result in results if not result.is_trivial]
        say(f"{sum(result.succeeds for result in tried)} of {len(tried)} attacks succeed.")
    say(f"Adversarial pictures and figures are in {plan.out}.")
    return results


def _wrapped(text):
    """Returns lines that fit a terminal; a number and its % stay together."""
    return textwrap.fill(text.replace(" %", "\0%"), WIDTH, subsequent_indent="  ").replace("\0", " ")


def _lines(name, row):
    """Returns the results of one picture: a sentence or, for several targets, a line each."""
    if len(row) == 1:
        return _wrapped(f"{name}: {row[0].summary()}")
    known = row[0].clean_answers is not None
    lines = [f"{name}: {row[0].answer(row[0].clean_answers)}, clean."] if known else []
    table = [
        (
            f"  to {each.class_names[each.target]}",
            *([each.answer(each.adversarial_answers)] if known else []),
            f"{each.largest_change}/255",
            f"L2 {each.l2:.2f}",
            "missed" if known and not each.succeeds else "",
        )
        for each in row
    ]
    return "\n".join([*lines, aligned(table)])


def _heading(plan):
    return f"epsilon {shown_value(plan.export.epsilon if plan.epsilon is None else plan.epsilon)}"


def figure(results: Sequence[AttackedPicture], heading: str) -> bytes:
    """Draws one picture: clean, what was added, and the result; for several targets a column each, beside the clean one.

    Args:
        results: of the same picture.
        heading: one line above.

    Returns:
        A PNG file.
    """
    names = figures.drawable_names(results[0].class_names)
    shown = [dataclasses.replace(each, class_names=names) for each in results[:MAX_COLUMNS]]
    clean = shown[0].clean / 255
    rows = {
        "perturbation": [each.magnified for each in shown],
        "adversarial": [each.adversarial / 255 for each in shown],
    }
    captions = [_caption(each) for each in shown]
    before = "clean" if shown[0].clean_answers is None else f"clean: {shown[0].answer(shown[0].clean_answers)}"
    before, *captions = (caption.replace(" %", "\u00a0%") for caption in (before, *captions))  # not broken there
    if len(results) == 1:
        return figures.picture_grid({"clean": [clean], **rows}, [f"{before}\n{captions[0]}"], heading)
    rows = {
        "adversarial": [clean, *rows["adversarial"]],
        "perturbation": [np.full_like(clean, 0.5), *rows["perturbation"]],
    }
    return figures.picture_grid(rows, [before, *captions], heading)


def _caption(result):
    goal = f"{'target' if result.targeted else 'label'}: {result.class_names[result.target]}"
    return goal if result.clean_answers is None else f"{goal}\n{result.answer(result.adversarial_answers)}"
