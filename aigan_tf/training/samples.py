"""Sample images of a generator at the end of a stage."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from aigan_tf.data.datasets import ImageDataset
from aigan_tf.engine.callbacks import fresh_event_writer
from aigan_tf.errors import shown_value
from aigan_tf.evaluation import figures
from aigan_tf.files import write_bytes
from aigan_tf.method.aigan import AIGAN
from aigan_tf.workdir import Workdir


def write_samples(aigan: AIGAN, classifier: Callable, dataset: ImageDataset, folder: Workdir) -> None:
    """Draws one validation image of each of up to ten classes, as PNG and for TensorBoard, with the classifier's answers."""
    split = dataset.validation
    shown = [int(np.argmax(split.labels == k)) for k in range(dataset.num_classes) if (split.labels == k).any()][:10]
    images, labels = split.take(np.array(shown)).as_float(), split.labels[shown]
    targets = aigan.choose_targets(tf.constant(labels))
    adversarial_images = aigan(images, targets).numpy()
    answers = np.argmax(classifier(adversarial_images), axis=-1)
    names = figures.drawable_names(dataset.class_names)
    goal = "target: " if aigan.targeted else "target: not "
    captions = [
        f"{names[label]}\n{goal}{names[target]}\nanswer: {names[answer]}"
        for label, target, answer in zip(labels, targets.numpy(), answers, strict=True)
    ]
    heading = (
        f"{figures.drawable(dataset.name, 'images')}, end of stage {aigan.stage}: epsilon {shown_value(aigan.epsilon)}"
    )
    png = figures.attack_grid(images, adversarial_images, aigan.epsilon, captions, heading)
    write_bytes(folder.samples / f"stage{aigan.stage}.png", png)
    events = fresh_event_writer(folder.logs / "samples", f".stage{aigan.stage}")
    with events.as_default():
        tf.summary.image(f"stage{aigan.stage}", tf.io.decode_png(png)[tf.newaxis], step=aigan.steps_done)
    events.close()
