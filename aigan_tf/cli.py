"""The commands: flags to one call. `python -m aigan_tf COMMAND` is the same as `aigan-COMMAND`.

TensorFlow takes seconds to import, so each command imports what it runs after its flags are checked: a mistyped flag is
answered at once.
"""

import dataclasses
import sys
from collections.abc import Sequence

from aigan_tf.config import GROUPS, PRESETS, Config, kind_of, make_config
from aigan_tf.errors import InputError, say, shown_value
from aigan_tf.files import user_path, write_bytes
from aigan_tf.flags import Flags, exit_status

RESUME_HINT = "; the same command continues from the last checkpoint"


def main() -> None:
    """python -m aigan_tf COMMAND"""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in COMMANDS:
        COMMANDS[command](arguments)
    elif command in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        summaries = (f"  {name.ljust(width)}  {run.__doc__.splitlines()[0]}" for name, run in COMMANDS.items())
        say("\n".join(["python -m aigan_tf COMMAND ..., or aigan-COMMAND ...", "", *summaries]))
    else:
        with exit_status():
            raise InputError(f"unknown command {command!r}", f"one of {', '.join(COMMANDS)}", "see --help")


def train(arguments: Sequence[str] | None = None) -> None:
    """Trains a classifier and an AI-GAN generator against it, measures and exports the generator.

    python train.py --dataset=cifar10
    """
    with exit_status(RESUME_HINT):
        flags = Flags(train.__doc__)
        for group in GROUPS:
            for field in dataclasses.fields(Config):
                if field.metadata["setting"].group == group:
                    _add_setting(flags, field)
        _add_data_dir(flags, "data")
        _add_strategy(flags, ("none", "mirrored", "multiworker"))
        flags.add(
            str,
            "workdir",
            None,
            "folder of the run; the same command on it continues the run",
            "output",
            "runs/DATASET",
        )
        _add_export_classifier(flags, "output")
        _, values = flags.parse(arguments)
        given = {field.name: values[field.name].value for field in dataclasses.fields(Config)}
        config = make_config(**{name: value for name, value in given.items() if value is not None})
        from aigan_tf.training.run import train_and_export

        name = user_path(config.dataset).resolve().name.split(":")[0] or "dataset"
        workdir = values.workdir or f"runs/{name}"
        train_and_export(config, workdir, values.data_dir, values.export_classifier, values.strategy)


def evaluate(arguments: Sequence[str] | None = None) -> None:
    """Measures trained generators, and other attacks beside them, on the test split.

    python evaluate.py --workdir=runs/cifar10 --attacks=aigan,fgsm,pgd
    """
    with exit_status():
        flags = Flags(evaluate.__doc__)
        flags.add(list, "workdir", ["runs/digits"], "folder of a finished run; several, by comma, are set side by side")
        _add_data_dir(flags)
        flags.add(list, "attacks", ["aigan"], "what to measure, by comma: aigan, aigan_stage1, advgan, fgsm, pgd, cw")
        flags.add(
            int,
            "num_examples",
            None,
            "how many test images, from the first; 0: all",
            default_text="all; 1000 beside fgsm, pgd or cw, and of several runs",
        )
        flags.add(
            str,
            "output",
            None,
            "folder for the report as HTML, JSON and CSV",
            default_text="evaluation in the run's folder; of several runs/defenses",
        )
        flags.add(
            list,
            "transfer_to",
            None,
            "classifiers to show the generator's images to, by comma: folders of runs, files (of the run's input_range), "
            "or resnet20, A, ...",
            default_text="none",
        )
        flags.add(str, "save_images", None, "new folder for the adversarial images and their manifest.csv")
        _add_custom_objects(flags)
        _, values = flags.parse(arguments)
        from aigan_tf.evaluation.compare import evaluate_workdir
        from aigan_tf.evaluation.defences import compare_defences

        shared = values.data_dir, values.attacks, values.num_examples, values.output
        trusted = values.custom_objects or ()
        if len(values.workdir) == 1:
            evaluate_workdir(
                values.workdir[0], *shared, values.transfer_to or (), values.save_images, custom_objects=trusted
            )
            return
        for name in ("transfer_to", "save_images"):
            if values[name].value:
                raise InputError(
                    values[name].value, "one run with it", "name one `workdir`", setting=name,
                    problem=f"with {len(values.workdir)} runs",
                )  # fmt: skip
        compare_defences(values.workdir, *shared, trusted)


def advgan(arguments: Sequence[str] | None = None) -> None:
    """Trains AdvGAN, the older method, beside the AI-GAN of a run: one generator for each target class.

    python -m aigan_tf advgan runs/cifar10 cat 5

    The first argument is the folder of the run, whose settings and classifier are used; the others name target classes,
    all of them if there are none. `evaluate.py --attacks=aigan,advgan` then measures both.
    """
    with exit_status(RESUME_HINT):
        flags = Flags(advgan.__doc__, ("WORKDIR", "CLASS..."))
        flags.add(int, "epochs", None, "epochs of each generator", default_text="those of both stages of the run")
        _add_data_dir(flags)
        _add_strategy(flags, ("none", "mirrored"))
        _add_custom_objects(flags)
        given, values = flags.parse(arguments)
        workdir, *classes = given or [None]
        _require(workdir, "the folder of a run")
        from aigan_tf.training.advgan import train_advgan

        train_advgan(workdir, classes, values.epochs, values.data_dir, values.strategy, values.custom_objects or ())


def export(arguments: Sequence[str] | None = None) -> None:
    """Exports the generator of a finished run as the next version of its SavedModel; earlier versions stay.

    python -m aigan_tf export runs/cifar10 --export_classifier
    """
    with exit_status():
        flags = Flags(export.__doc__, ("WORKDIR",))
        _add_data_dir(flags)
        _add_export_classifier(flags)
        _add_custom_objects(flags)
        given, values = flags.parse(arguments)
        (workdir,) = given or [None]
        _require(workdir, "the folder of a finished run")
        from aigan_tf.training.run import export_run

        export_run(workdir, values.data_dir, values.export_classifier, values.custom_objects or ())


def client(arguments: Sequence[str] | None = None) -> None:
    """Asks a served generator for the adversarial image of an image file.

    python -m aigan_tf client --rest=localhost:8501 --image=cat.png --target=dog --out=adv.png
    """
    from aigan_tf.serving.client import MODEL, GrpcServer, RestServer, attack_image, read_image

    with exit_status():
        flags = Flags(client.__doc__)
        flags.add(str, "rest", None, "HOST:PORT of TensorFlow Serving's REST interface (usually 8501)")
        flags.add(str, "grpc", None, "HOST:PORT of its gRPC interface, in place of --rest (usually 8500)")
        flags.add(str, "model", MODEL, "name the generator is served under")
        flags.add(str, "image", None, "PNG or JPEG file to attack", default_text="none, it must be given")
        flags.add(str, "target", None, "class the classifier shall answer, by name or number")
        flags.add(str, "label", None, "true class, in place of --target if the generator is untargeted")
        flags.add(str, "out", None, "PNG file to write", default_text="none, it must be given")
        flags.add(float, "timeout", 60.0, "seconds to wait for an answer, from 0.001 to a million")
        _, values = flags.parse(arguments)
        for one, other in (("rest", "grpc"), ("target", "label")):
            if (values[one].value is None) == (values[other].value is None):
                given = "neither" if values[one].value is None else "both"
                raise InputError(f"{given} of --{one} and --{other}", "one of them", "see --help")
        for name in ("image", "out"):
            if values[name].value is None:
                raise InputError(f"no --{name}", "a file", "see --help")
        if not 0.001 <= values.timeout <= 1e6:
            raise InputError(values.timeout, "seconds, from 0.001 to a million", "give e.g. 60", setting="timeout")
        connect = RestServer if values.rest else GrpcServer
        adversarial = attack_image(
            connect(values.rest or values.grpc, values.model, values.timeout),
            read_image(values.image),
            values.target or values.label,
            "target_class" if values.target else "label",
        )
        write_bytes(user_path(values.out), adversarial)
        say(f"Adversarial image written to {values.out}.")


COMMANDS = {"train": train, "evaluate": evaluate, "advgan": advgan, "export": export, "client": client}


def _add_setting(flags, field):
    """Adds the flag of a field of `Config`; if it is not given, the data set's preset or the field's default counts."""
    setting = field.metadata["setting"]
    default = setting.if_none if field.default is None else shown_value(field.default)
    datasets = {}
    for name, preset in PRESETS.items():
        if preset.get(field.name, field.default) != field.default:
            datasets.setdefault(preset[field.name], []).append(name)
    others = [f"{', '.join(names)}: {shown_value(value)}" for value, names in datasets.items()]
    bounds = f", at most {setting.high:g}" if setting.high is not None and kind_of(field) is int else ""
    flags.add(
        kind_of(field), field.name, None, setting.help + bounds, setting.group, "; ".join([default, *others]),
        setting.choices,
    )  # fmt: skip


def _add_data_dir(flags, group=""):
    flags.add(str, "data_dir", None, "folder of TFDS data sets", group, "TFDS's own")


def _add_strategy(flags, choices):
    flags.add(
        str,
        "strategy",
        "none",
        "train on one device, on all GPUs of this machine, or in one process for each worker of TF_CONFIG",
        "training" if "multiworker" in choices else "",
        choices=choices,
    )


def _add_export_classifier(flags, group=""):
    flags.add(
        bool,
        "export_classifier",
        False,
        "put the classifier into the SavedModel too, for its signature classify",
        group,
    )


def _add_custom_objects(flags):
    flags.add(
        list,
        "custom_objects",
        None,
        "Python files that the runs were trained with, by comma; they are run",
        default_text="none",
    )


def _require(workdir, expected):
    if workdir is None:
        raise InputError("no WORKDIR", expected, "see --help")
