"""The commands: flags to a Config to one call."""

import dataclasses

from absl import flags

from aigan_tf.config import PRESETS, Config, make_config
from aigan_tf.errors import InputError
from aigan_tf.files import user_path
from aigan_tf.flags import define, refuse_empty, run, shown_value


def _define_setting(field: dataclasses.Field) -> None:
    """Defines the flag of a field of `Config`; not given, it is None: as the data set's preset says."""
    datasets = {}
    for name, preset in PRESETS.items():
        datasets.setdefault(preset.get(field.name, field.default), []).append(name)
    datasets.pop(field.default, None)
    others = [f"{', '.join(names)}: {shown_value(value)}" for value, names in datasets.items()]
    shown = "; ".join([shown_value(field.default), *others])
    define(field.type, field.name, None, field.metadata["help"], shown)


def _define_data_dir() -> None:
    define(str, "data_dir", None, "folder of TFDS data sets", "TFDS's own")


def _define_train_flags() -> None:
    """Defines one flag for each field of `Config`, the folders and the method."""
    for field in dataclasses.fields(Config):
        _define_setting(field)
    define(str, "workdir", None, "folder of the run; a second run on it continues the first", "runs/DATASET")
    _define_data_dir()
    define(
        flags.DEFINE_enum,
        "method",
        "aigan",
        "what to train; advgan: the AdvGAN baseline, in the same work folder",
        enum_values=["aigan", "advgan"],
    )
    define(str, "target_class", None, "with --method=advgan: names or numbers of classes, by comma, or all", "all")
    define(int, "advgan_epochs", None, "with --method=advgan: epochs of each generator", "those of both stages")
    define(
        flags.DEFINE_enum,
        "strategy",
        "none",
        "train the generator on one device, on all GPUs of this machine, or in one process for each worker of TF_CONFIG",
        enum_values=["none", "mirrored", "multiworker"],
    )
    define(bool, "export_classifier", False, "put the classifier into the SavedModel, for its signature classify")
    define(
        bool,
        "export_again",
        False,
        "only export the finished run in --workdir again, as the next version; no other settings",
    )


def train() -> None:
    """python train.py, or aigan-train"""
    _define_train_flags()

    def main():
        """Trains a classifier and an AI-GAN generator against it, and exports the generator."""
        values = flags.FLAGS
        refuse_empty(values, "workdir", "data_dir", "target_class")
        settings = {field.name: values[field.name].value for field in dataclasses.fields(Config)}
        given = {name: value for name, value in settings.items() if value is not None}
        if values.method == "aigan":
            for name in ("target_class", "advgan_epochs"):
                if values[name].value is not None:
                    raise InputError(
                        f"--{name}={values[name].value} has no effect; expected it only with --method=advgan"
                    )
        if values.export_again:
            named = given.pop("custom_objects", None)
            if given or values.method != "aigan" or not values.workdir:
                unfit = f"--{next(iter(given))}" if given else "--method" if values.workdir else "no --workdir"
                raise InputError(
                    f"--export_again with {unfit}; expected --workdir of a finished run, and of other flags only --data_dir, "
                    "--export_classifier and --custom_objects: the run has its settings"
                )
            from aigan_tf.training.run import export_again

            export_again(values.workdir, values.data_dir, values.export_classifier, () if named is None else (named,))
            return
        config = make_config(**given)
        # Here: TensorFlow takes seconds to import, and a mistyped flag should be answered at once.
        from aigan_tf.training.advgan import train_advgan
        from aigan_tf.training.run import train_and_export

        name = user_path(config.dataset).resolve().name.split(":")[0] or "dataset"
        workdir = values.workdir or f"runs/{name}"
        if values.method == "advgan":
            if values.export_classifier:
                raise InputError("--export_classifier has no effect with --method=advgan; expected one: leave it out")
            train_advgan(
                config, workdir, values.data_dir, values.target_class or "all", values.advgan_epochs, values.strategy
            )
        else:
            train_and_export(config, workdir, values.data_dir, values.export_classifier, values.strategy)

    run(main, "; the same command goes on from what was saved last")


def evaluate() -> None:
    """python evaluate.py, or aigan-evaluate"""
    define(
        list,
        "workdir",
        "runs/digits",
        "work folder of a finished train.py; several, by comma, are set side by side",
    )
    _define_data_dir()
    define(list, "attacks", "aigan", "what to measure, by comma: aigan, aigan_stage1, advgan, fgsm, pgd, cw")
    define(
        int,
        "num_examples",
        None,
        "how many test images, from the first; 0: all",
        "all; 1000 beside fgsm, pgd or cw, and of several work folders",
    )
    define(
        str,
        "output",
        None,
        "folder for the report as HTML, JSON and CSV",
        "evaluation in the work folder; of several runs/defenses",
    )
    define(
        list,
        "transfer_to",
        "",
        "classifiers to show the generator's pictures to, by comma: work folders, files (of the run's input_range) or resnet20, A, ...",
        "none",
    )
    define(str, "save_images", None, "new folder for the adversarial pictures and their manifest.csv")
    define(
        list, "custom_objects", "", "Python files that work folders were trained with, by comma; they are run", "none"
    )

    def main():
        """Measures trained generators, and other attacks beside them, on the test split."""
        values = flags.FLAGS
        refuse_empty(values, "workdir", "data_dir", "output", "save_images")
        from aigan_tf.evaluation.compare import evaluate_workdir
        from aigan_tf.evaluation.defences import evaluate_defenses

        shared = values.data_dir, values.attacks, values.num_examples, values.output
        if len(values.workdir) == 1:
            evaluate_workdir(
                values.workdir[0], *shared, values.transfer_to, values.save_images, custom_objects=values.custom_objects
            )
            return
        for name in ("transfer_to", "save_images"):
            if values[name].value:
                raise InputError(f"--{name} with {len(values.workdir)} work folders: expected one: name one")
        evaluate_defenses(values.workdir, *shared, values.custom_objects)

    run(main)
