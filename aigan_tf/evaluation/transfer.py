"""Classifiers the generator was not trained on."""

import dataclasses

from aigan_tf import workdir
from aigan_tf.classifiers import architectures, training
from aigan_tf.classifiers.loading import run_python
from aigan_tf.classifiers.training import trained_classifier
from aigan_tf.errors import InputError
from aigan_tf.files import user_path
from aigan_tf.workdir import Workdir


def transfer_classifiers(names, config, dataset, folder, custom_objects):
    """Classifiers the generator was not trained on, by name; none is trained before all names are known to be good."""
    trained = [name for name in names if config.is_built_in(name) and not _is_workdir(name)]
    found = {}
    for name in names:
        if name not in trained and not _is_workdir(name):  # a file
            other = dataclasses.replace(
                config, classifier=name, classifier_epochs=None, defense=None, custom_objects=None
            )
            for file in custom_objects:
                run_python(file)
            # It is only shown pictures.
            found[name] = training.own_classifier(other, dataset, needs_gradient=False, setting="transfer_to")
            continue
        try:
            if name in trained:
                architectures.fitting_architecture(name, dataset.image_shape, "transfer_to")
            else:
                other = Workdir(user_path(name))
                settings = workdir.config_of(other)
                training.refuse_unnamed_python(settings, other, custom_objects)
                found[name] = training.existing_classifier(settings, dataset, other)
        except InputError as error:
            raise InputError(f"--transfer_to={name}: {error}") from error
    found |= {name: _trained_classifier(name, config, dataset, folder) for name in trained}
    return {name: found[name] for name in names}


def _is_workdir(name):
    return (user_path(name) / "config.json").exists()


def _trained_classifier(name, config, dataset, folder):
    """One that is trained in transfer/NAME here, where it is not there yet."""
    # Another seed: the run's own would train its very classifier once more, if it is of this architecture.
    other = dataclasses.replace(config, classifier=name, classifier_epochs=None, defense=None, seed=config.seed + 1)
    own = Workdir(folder.path / "transfer" / name.lower())
    with own.locked():
        return trained_classifier(other, dataset, own)
