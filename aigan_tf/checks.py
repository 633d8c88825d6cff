"""Checks of settings, folders and files that need no TensorFlow, which takes seconds to import.

Commands call them first, and so do the functions that are called from Python.
"""

import dataclasses
import difflib
import os
from collections.abc import Sequence

from aigan_tf.classifiers.paths import model_path, refuse_missing_files, refuse_unnamed_python
from aigan_tf.config import ATTACKS, Config, attack_kind, is_built_in, refuse_idle_settings
from aigan_tf.errors import InputError
from aigan_tf.workdir import Workdir, config_of


def check_new_run(config: Config, workdir: str | os.PathLike, data_dir: str | None, extend: bool = False) -> Workdir:
    """Returns the folder of a run that is begun, or continued with the same settings; writes nothing.

    Args:
        config, workdir, data_dir, extend: as in `train_and_export`.

    Raises:
        InputError: the folder holds something else, or a setting or a file it names cannot be used.
    """
    folder = Workdir(workdir)
    folder.check(dataclasses.asdict(config), extend=extend)
    refuse_idle_settings(config)
    refuse_missing_files(config)
    if not folder.generator_begun:
        _check_beginning(config)
    _check_data(config, folder.data_dir(data_dir))
    return folder


def check_finished_run(
    workdir: str | os.PathLike,
    data_dir: str | None,
    custom_objects: Sequence[str] = (),
    with_classifier: bool = True,
) -> tuple[Workdir, Config]:
    """Returns the folder of a finished run and its settings.

    Args:
        workdir: the folder.
        data_dir: folder of TFDS data sets; None for TFDS's default.
        custom_objects: the Python files that the run may execute.
        with_classifier: whether its classifier is needed.

    Raises:
        InputError: it is not one, or a file it needs is missing, or would be executed without being named.
    """
    folder = Workdir(workdir)
    config = config_of(folder)
    if with_classifier:
        refuse_unnamed_python(config, folder, custom_objects)
        if not config.defense:  # else it is classifier.keras
            refuse_missing_files(config)
    _check_data(config, folder.data_dir(data_dir))
    return folder, config


def _check_beginning(config):
    if config.init_from and Workdir(config.init_from).generator is None:
        raise InputError(
            config.init_from,
            "the work folder of a finished run, or one of pretrained/",
            "give another, or leave it out",
            setting="init_from",
            problem="holds no generator",
        )


def _check_data(config, data_dir):
    from aigan_tf.data.datasets import refuse_missing_data  # here: NumPy takes longer to import than the rest to check

    refuse_missing_data(config, data_dir)


def check_advgan_run(
    workdir: str | os.PathLike, epochs: int | None, data_dir: str | None, custom_objects: Sequence[str] = ()
) -> tuple[Workdir, Config]:
    """Returns the folder and the settings of a run beside which AdvGAN can be trained for `epochs`, or None.

    Raises:
        InputError: it is not one, as for `check_finished_run`, or `epochs` is not positive.
    """
    run, config = check_finished_run(workdir, data_dir, custom_objects)
    for setting, fits in (("attack", config.targeted), ("black_box", config.black_box is None)):
        if not fits:
            raise InputError(
                getattr(config, setting),
                "a targeted run whose classifier's gradient is used",
                "choose another run",
                setting=setting,
                place=str(run.config),
            )
    if epochs is not None and epochs < 1:
        raise InputError(epochs, "1 or more", f"give e.g. {config.epochs}", setting="epochs")
    return run, config


def check_evaluation(attacks: Sequence[str], num_examples: int | None, transfer_to: Sequence[str]) -> None:
    """Checks the names of attacks, the number of images, and the other classifiers.

    Raises:
        InputError: one of them cannot be used.
    """
    unknown = [name for name in attacks if attack_kind(name) is None]
    if unknown or not attacks:
        examples = [name.replace("+N", "+2").replace("-N", "-10") for name in ATTACKS]
        near = difflib.get_close_matches(unknown[0].lower(), examples, 1) if unknown else []
        raise InputError(
            attacks,
            f"some of {', '.join(ATTACKS)}, with N from 1 to 999",
            f"did you mean {near[0]}?" if near else "choose among these",
            setting="attacks",
            problem=f"has the unknown attack {unknown[0]!r}" if unknown else "is empty",
        )
    if num_examples is not None and num_examples < 0:
        raise InputError(num_examples, "0 (all) or more", "give e.g. 1000", setting="num_examples")
    if transfer_to and "aigan" not in attacks:
        raise InputError(
            transfer_to,
            "aigan among `attacks`, since its images are shown",
            f"give `attacks`={','.join(['aigan', *attacks])}",
            setting="transfer_to",
        )
    for name in transfer_to:
        if not is_built_in(name) and not Workdir(name).config.exists():
            model_path(name, "transfer_to")
