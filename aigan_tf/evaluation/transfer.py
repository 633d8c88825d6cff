"""Loads or trains classifiers that the generator was not trained on, to measure transfer."""

import dataclasses
from collections.abc import Callable, Sequence

from aigan_tf.classifiers import architectures, training
from aigan_tf.classifiers.model_files import run_python
from aigan_tf.classifiers.paths import refuse_unnamed_python
from aigan_tf.config import is_built_in
from aigan_tf.errors import InputError
from aigan_tf.evaluation.finished_run import FinishedRun
from aigan_tf.files import user_path
from aigan_tf.workdir import Workdir, config_of


def transfer_classifiers(
    names: Sequence[str], run: FinishedRun, custom_objects: Sequence[str] = ()
) -> dict[str, Callable]:
    """Returns the named classifiers as images to logits. Training starts only after all names are checked.

    Args:
        names: folders of runs, model files, or architectures, which are trained in transfer/NAME of the run's folder.
        run: the run whose data set they classify.
        custom_objects: Python files that may be executed.

    Raises:
        InputError: one of them cannot be used.
    """
    trained = [name for name in names if is_built_in(name) and not _is_workdir(name)]
    for name in trained:
        run.dataset.require_labels(name, "transfer_to")
        architectures.fitting_architecture(name, run.dataset.image_shape, "transfer_to")
    loaded = {name: _load(name, run, custom_objects) for name in names if name not in trained}
    return {name: _train(name, run) if name in trained else loaded[name] for name in names}


def _is_workdir(name):
    return (user_path(name) / "config.json").exists()


def _load(name, run, custom_objects):
    if not _is_workdir(name):  # a model file
        for file in custom_objects:
            run_python(file)
        config = dataclasses.replace(
            run.config,
            classifier=name,
            classifier_epochs=None,
            defense=None,
            custom_objects=None,
            classifier_output=None,
        )
        # It is only shown adversarial images.
        return training.own_classifier(config, run.dataset, needs_gradient=False, setting="transfer_to")
    folder = Workdir(user_path(name))
    config = config_of(folder)
    refuse_unnamed_python(config, folder, custom_objects)
    try:
        return training.existing_classifier(config, run.dataset, folder)
    except InputError as error:
        raise InputError(
            name, error.expected, error.fix, setting="transfer_to", problem=f"cannot be used ({error.received})"
        ) from error


def _train(name, run):
    # With the run's own seed, the run's classifier would be trained again if it has this architecture.
    config = dataclasses.replace(
        run.config, classifier=name, classifier_epochs=None, defense=None, seed=run.config.seed + 1
    )
    folder = Workdir(run.folder.path / "transfer" / name.lower())
    with folder.locked():
        return training.trained_classifier(config, run.dataset, folder)
