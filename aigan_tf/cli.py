"""The commands: each turns its flags into one call. `python -m aigan_tf COMMAND` is the same as `aigan-COMMAND`.

TensorFlow takes seconds to import. Each command checks its flags first, so that a mistyped flag is answered at once.
Docstrings of commands are shown by `--help` and keep within 80 columns.
"""

import dataclasses
import sys
import textwrap
from collections.abc import Sequence

from aigan_tf.config import GROUPS, PRESETS, Config, kind_of, make_config
from aigan_tf.errors import InputError, say, shown_value
from aigan_tf.files import user_path, write_bytes
from aigan_tf.flags import WIDTH, Flags, exit_status

RESUME_HINT = "; the same command continues from the last checkpoint"


def main() -> None:
    """Runs the command that the first argument names."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in COMMANDS:
        COMMANDS[command](arguments)
    elif command in ("-h", "--help"):
        say("python -m aigan_tf COMMAND, or aigan-COMMAND; COMMAND --help lists its flags.\n")
        for name, run in COMMANDS.items():
            say(textwrap.fill(f"  {name:10}{run.__doc__.splitlines()[0]}", WIDTH, subsequent_indent=12 * " "))
    else:
        with exit_status():
            raise InputError(f"unknown command {command!r}", f"one of {', '.join(COMMANDS)}", "see --help")


def train(arguments: Sequence[str] | None = None) -> None:
    """Trains a classifier and a generator against it, and exports the generator.

    python train.py --dataset=cifar10
    """
    with exit_status(RESUME_HINT):
        flags = Flags(train.__doc__)
        for group in GROUPS:
            for field in dataclasses.fields(Config):
                if field.metadata["setting"].group == group:
                    _add_setting(flags, field)
        _add_data_dir(flags, "data")
        _add_strategy(flags, ("none", "mirrored", "multiworker"), "training")
        flags.add(str, "workdir", None, "folder of the run; the same command continues it", "output", "runs/DATASET")
        _add_export_classifier(flags, "output")
        _, values = flags.parse(arguments)
        given = {field.name: values[field.name].value for field in dataclasses.fields(Config)}
        config = make_config(**{name: value for name, value in given.items() if value is not None})
        from aigan_tf.training.run import train_and_export

        name = user_path(config.dataset).resolve().name.split(":")[0] or "dataset"
        workdir = values.workdir or f"runs/{name}"
        train_and_export(config, workdir, values.data_dir, values.export_classifier, values.strategy)


def evaluate(arguments: Sequence[str] | None = None) -> None:
    """Measures generators and other attacks on the test split.

    python evaluate.py --workdir=runs/cifar10 --attacks=aigan,fgsm,pgd
    """
    with exit_status():
        flags = Flags(evaluate.__doc__)
        _add_evaluation(flags)
        _, values = flags.parse(arguments)
        shared = values.data_dir, values.attacks, values.num_examples, values.output
        trusted = values.custom_objects or ()
        if len(values.workdir) == 1:
            from aigan_tf.evaluation.compare import evaluate_workdir

            transfer_to = values.transfer_to or ()
            evaluate_workdir(values.workdir[0], *shared, transfer_to, values.save_images, custom_objects=trusted)
            return
        for name in ("transfer_to", "save_images"):
            if values[name].value:
                problem = f"with {len(values.workdir)} runs"
                raise InputError(values[name].value, "one run", "name one `workdir`", setting=name, problem=problem)
        from aigan_tf.evaluation.defences import compare_defences

        compare_defences(values.workdir, *shared, trusted)


def advgan(arguments: Sequence[str] | None = None) -> None:
    """Trains AdvGAN, the baseline: one generator per target class.

    python -m aigan_tf advgan runs/cifar10 cat 5

    The first argument is the folder of a run, whose settings and classifier are
    used; the others are target classes by name or number, by default all.
    Measure the result by: python evaluate.py --attacks=aigan,advgan
    """
    with exit_status(RESUME_HINT):
        flags = Flags(advgan.__doc__, ("WORKDIR", "CLASS..."))
        flags.add(int, "epochs", None, "epochs per generator", default_text="as many as both stages of the run")
        _add_data_dir(flags)
        _add_strategy(flags, ("none", "mirrored"))
        _add_custom_objects(flags)
        given, values = flags.parse(arguments)
        workdir, *classes = given or [None]
        _require(workdir, "the folder of a run")
        from aigan_tf.training.advgan import train_advgan

        train_advgan(workdir, classes, values.epochs, values.data_dir, values.strategy, values.custom_objects or ())


def export(arguments: Sequence[str] | None = None) -> None:
    """Exports the generator of a finished run once more, as the next version.

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

    python -m aigan_tf client --rest=localhost:8501 --image=cat.png \\
        --target=dog --out=adversarial.png
    """
    with exit_status():
        from aigan_tf.serving.client import MODEL, GrpcServer, RestServer, attack_image, read_image

        flags = Flags(client.__doc__)
        flags.add(str, "rest", None, "HOST:PORT of TensorFlow Serving's REST interface (usually 8501)")
        flags.add(str, "grpc", None, "HOST:PORT of its gRPC interface, instead of --rest (usually 8500)")
        flags.add(str, "model", MODEL, "name the generator is served under")
        flags.add(str, "image", None, "PNG or JPEG file to attack", default_text="none, required")
        flags.add(str, "target", None, "target class, by name or number")
        flags.add(str, "label", None, "true class, instead of --target if the generator is untargeted")
        flags.add(str, "out", None, "PNG file to write", default_text="none, required")
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


def attack(arguments: Sequence[str] | None = None) -> None:
    """Attacks pictures with a trained generator, and shows what the classifier answers.

    python -m aigan_tf attack photo.jpg --target=cat

    PICTURE is an image file or a folder of them. The shorter side is resized to
    what the generator takes, and the centre cropped. One picture and target give
    an adversarial PNG and a figure beside it, e.g. photo_cat.png and
    photo_cat_figure.png in the current folder; several, or --target=all, a new
    folder with them. Nothing that exists is replaced. The answers are those for
    the written PNG, rounded to 8 bits.
    """
    with exit_status():
        flags = Flags(attack.__doc__, ("PICTURE...",))
        flags.add(str, "target", None, "class to reach, by name or number; all: each class in turn")
        default = "pretrained/cifar10, if it lies beside the package"
        flags.add(
            str, "generator", None, "folder of a finished run, or of an exported SavedModel", default_text=default
        )
        text = "instead of `target` for an untargeted generator: the class of the pictures"
        flags.add(str, "label", None, text, default_text="the classifier's answer")
        text = "budget of a generator trained with --variable_epsilon, e.g. 4/255"
        flags.add(float, "epsilon", None, text, default_text="its largest")
        text = "PNG file to write; for several pictures or targets a folder. Must be new"
        flags.add(str, "out", None, text, default_text="PICTURE_TARGET.png; for several adversarial")
        _add_custom_objects(flags)
        given, values = flags.parse(arguments)
        from aigan_tf.attack_plan import make_plan

        plan = make_plan(given, values.generator, values.target, values.label, values.epsilon, values.out)
        say(f"Loading {plan.export.path}.")
        from aigan_tf.photo_attack import attack_pictures

        attack_pictures(plan, values.custom_objects or ())


def demo(arguments: Sequence[str] | None = None) -> None:
    """Serves a page that attacks pictures in the browser.

    python -m aigan_tf demo

    It offers the generators in pretrained/ and runs/. Needs Gradio, the extra
    [demo]; works without a network.
    """
    with exit_status():
        flags = Flags(demo.__doc__)
        text = "folder of a finished run, or of an exported SavedModel"
        flags.add(str, "generator", None, text, default_text="all in pretrained/ and runs/")
        flags.add(str, "host", "127.0.0.1", "address to listen at; 0.0.0.0 lets other machines in")
        flags.add(int, "port", None, "port to listen at", default_text="the first free one from 7860 on")
        _add_custom_objects(flags)
        _, values = flags.parse(arguments)
        say("Loading the page.")
        from aigan_tf.demo import serve

        serve(values.generator, values.host, values.port, values.custom_objects or ())


COMMANDS = {
    "train": train, "evaluate": evaluate, "attack": attack, "advgan": advgan, "export": export, "client": client,
    "demo": demo,
}  # fmt: skip


def _add_setting(flags, field):
    """Adds the flag of a field of `Config`. If not given it is None, and the data set's preset or the default holds."""
    setting = field.metadata["setting"]
    default = setting.if_none if field.default is None else shown_value(field.default)
    datasets = {}
    for name, preset in PRESETS.items():
        if preset.get(field.name, field.default) != field.default:
            datasets.setdefault(preset[field.name], []).append(name)
    others = [f"{', '.join(names)}: {shown_value(value)}" for value, names in datasets.items()]
    bounds = f"; at most {setting.high:g}" if setting.high is not None and kind_of(field) is int else ""
    flags.add(
        kind_of(field), field.name, None, setting.help + bounds, setting.group, "; ".join([default, *others]),
        setting.choices,
    )  # fmt: skip


def _add_evaluation(flags):
    flags.add(list, "workdir", ["runs/digits"], "folder of a finished run; several, by comma, are compared")
    _add_data_dir(flags)
    flags.add(list, "attacks", ["aigan"], "attacks by comma: aigan, aigan_stage1, advgan, fgsm, pgd, cw")
    default = "all; 1000 with fgsm, pgd, cw or several runs"
    flags.add(int, "num_examples", None, "number of test images, from the first; 0: all", default_text=default)
    default = "WORKDIR/evaluation; runs/defenses for several runs"
    flags.add(str, "output", None, "folder for the report as HTML, JSON and CSV", default_text=default)
    text = (
        "other classifiers to test the adversarial images on, by comma: folders of runs, architectures such as resnet20, "
        "or files that expect the run's input_range"
    )
    flags.add(list, "transfer_to", None, text)
    flags.add(str, "save_images", None, "new folder for the adversarial images and their manifest.csv")
    _add_custom_objects(flags)


def _add_data_dir(flags, group=""):
    flags.add(str, "data_dir", None, "folder of TFDS data sets", group, "TFDS's own")


_STRATEGIES = {
    "none": "one device",
    "mirrored": "all GPUs of this machine",
    "multiworker": "one process per worker of TF_CONFIG",
}


def _add_strategy(flags, choices, group=""):
    *others, last = (_STRATEGIES[choice] for choice in choices)
    text = f"train on {', '.join(others)}, or {last}"
    flags.add(str, "strategy", "none", text, group, choices=choices)


def _add_export_classifier(flags, group=""):
    text = "include the classifier in the SavedModel, for the signature classify"
    flags.add(bool, "export_classifier", False, text, group)


def _add_custom_objects(flags):
    text = "Python files that the runs were trained with, by comma; they are executed"
    flags.add(list, "custom_objects", None, text)


def _require(workdir, expected):
    if not workdir:
        raise InputError("no WORKDIR", expected, "see --help")
