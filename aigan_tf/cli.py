"""The commands: each turns its flags into one call. `python -m aigan_tf COMMAND` is the same as `aigan-COMMAND`.

TensorFlow takes seconds to import. Each command checks its flags first, so that a mistyped flag is answered at once.
Docstrings of commands are shown by `--help` and keep within 80 columns.
"""

import dataclasses
import difflib
import functools
import sys
import textwrap
import time
from collections.abc import Sequence

from aigan_tf import checks
from aigan_tf.classifiers.paths import refuse_unnamed_python
from aigan_tf.config import ATTACKS, GROUPS, PRESETS, Config, kind_of, make_config
from aigan_tf.errors import InputError, say, shown_value
from aigan_tf.exported import FORMATS, check_format
from aigan_tf.files import user_path
from aigan_tf.flags import WIDTH, Flags, print_and_exit, shown_version
from aigan_tf.terminal import command_line, exit_status
from aigan_tf.workdir import Workdir, config_of


def main() -> None:
    """Runs the command that the first argument names."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in COMMANDS:
        COMMANDS[command](arguments)
    elif command in ("-h", "--help", "help"):
        print_and_exit(_commands())
    elif command == "--version":
        print_and_exit(shown_version())
    else:
        with exit_status():
            meant = difflib.get_close_matches(command, COMMANDS, 1)
            fix = f"did you mean {meant[0]}?" if meant else "see --help"
            raise InputError(f"unknown command {command!r}", f"one of {', '.join(COMMANDS)}", fix)


def _commands():
    """Returns what `python -m aigan_tf --help` shows."""
    lines = ["python -m aigan_tf COMMAND, or aigan-COMMAND; COMMAND --help lists its flags.\n"]
    for name, run in COMMANDS.items():
        line = f"  {name:10}{run.__doc__.splitlines()[0]}"
        lines.append(textwrap.fill(line, WIDTH, subsequent_indent=12 * " "))
    return "\n".join(lines)


def train(arguments: Sequence[str] | None = None) -> None:
    """Trains a classifier and a generator against it, and exports the generator.

    python train.py --dataset=cifar10
    """
    began = time.monotonic()
    with exit_status() as interruption:
        flags = Flags(train.__doc__)
        for group in GROUPS:
            for field in dataclasses.fields(Config):
                if field.metadata["setting"].group == group:
                    _add_setting(flags, field)
        _add_data_dir(flags, "data")
        _add_strategy(flags, ("none", "mirrored", "multiworker"), "training")
        text = "folder of the run; alone it continues the run in it, with more `stage2_epochs` also a finished one"
        flags.add(str, "workdir", None, text, "output", "runs/DATASET")
        _add_export_classifier(flags, "output")
        _add_time(flags, "training")
        _, values = flags.parse(arguments)
        _check_minutes(values)
        config, folder = _settings_and_folder(values)
        chooses_epochs = values.minutes is not None and not folder.config.exists()
        if values.minutes is not None and not chooses_epochs:
            config = _with_its_epochs(config, folder)
        interruption.hint = functools.partial(_continue_train, config, folder, values)
        if values.strategy != "multiworker":  # there the first process may be writing the folder
            checks.check_new_run(config, folder.path, values.data_dir, extend=True)
        if chooses_epochs:
            from aigan_tf.training.estimate import config_within

            config = config_within(values.minutes, config, folder.path, values.data_dir, values.strategy, began)
            interruption.hint = functools.partial(_continue_train, config, folder, values)
        if values.check:
            from aigan_tf.training.estimate import check_run

            check_run(config, folder.path, values.data_dir, values.strategy)
            return
        from aigan_tf.training.run import train_and_export

        others = values.data_dir, values.export_classifier, values.strategy
        train_and_export(config, folder.path, *others, extend=True)


def _settings_and_folder(values):
    """Returns the settings and the folder of a run. If `workdir` names a run, its settings are those not given."""
    given = {field.name: values[field.name].value for field in dataclasses.fields(Config)}
    given = {name: value for name, value in given.items() if value is not None}
    if values.workdir and Workdir(values.workdir).config.exists():
        folder = Workdir(values.workdir)
        saved = config_of(folder)
        refuse_unnamed_python(saved, folder, [values.custom_objects] if values.custom_objects else [])
        if saved.custom_objects:
            given["custom_objects"] = saved.custom_objects  # the same file, perhaps by another path
        return dataclasses.replace(saved, **given), folder
    config = make_config(**given)
    name = user_path(config.dataset).resolve().name.split(":")[0] or "dataset"
    return config, Workdir(values.workdir or f"runs/{name}")


def _with_its_epochs(config, folder):
    """Returns the settings with the epochs of the run in the folder."""
    saved = folder.read_config()
    epochs = {name: saved[name] for name in ("stage1_epochs", "stage2_epochs")}
    config = dataclasses.replace(config, **epochs)
    say(f"{folder.path} holds a run of {config.epochs} epochs, which it keeps: --minutes chooses those of a new one.")
    return config


def _continue_train(config, folder, values):
    """Returns the end of the line that an interruption prints: the command that continues the run."""
    if not folder.config.exists():
        return "; nothing is saved yet"
    arguments = [f"--workdir={folder.path}"]
    if folder.read_config()["stage2_epochs"] != config.stage2_epochs:  # it had not begun to have more
        arguments.append(f"--stage2_epochs={config.stage2_epochs}")
    if values.data_dir not in (None, folder.data_dir()):
        arguments.append(f"--data_dir={values.data_dir}")
    if config.custom_objects:  # they are executed, so they are named each time
        arguments.append(f"--custom_objects={config.custom_objects}")
    if values.strategy != "none":
        arguments.append(f"--strategy={values.strategy}")
    if values.export_classifier:
        arguments.append("--export_classifier")
    return f"; continue with: {command_line('train', arguments)}"


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
        if len(values.workdir) > 1:
            for name in ("transfer_to", "save_images"):
                if values[name].value:
                    problem = f"with {len(values.workdir)} runs"
                    raise InputError(values[name].value, "one run", "name one `workdir`", setting=name, problem=problem)
        transfer_to = values.transfer_to or ()
        checks.check_evaluation(values.attacks, values.num_examples, transfer_to)
        for workdir in values.workdir:
            checks.check_finished_run(workdir, values.data_dir, trusted)
        if values.output:
            from aigan_tf.evaluation.report_files import check_place

            check_place(user_path(values.output), values.output, values.save_images)
        if len(values.workdir) == 1:
            from aigan_tf.evaluation.compare import evaluate_workdir

            evaluate_workdir(values.workdir[0], *shared, transfer_to, values.save_images, custom_objects=trusted)
            return
        from aigan_tf.evaluation.defences import compare_defences

        compare_defences(values.workdir, *shared, trusted)


def advgan(arguments: Sequence[str] | None = None) -> None:
    """Trains AdvGAN, the baseline: one generator per target class.

    python -m aigan_tf advgan runs/cifar10 cat 5

    The first argument is the folder of a run, whose settings and classifier are
    used; the others are target classes by name or number, by default all.
    Measure the result by: python evaluate.py --attacks=aigan,advgan
    """
    with exit_status() as interruption:
        flags = Flags(advgan.__doc__, ("WORKDIR", "CLASS..."))
        flags.add(int, "epochs", None, "epochs per generator", default_text="as many as both stages of the run")
        _add_data_dir(flags)
        _add_strategy(flags, ("none", "mirrored"))
        _add_custom_objects(flags)
        given, values = flags.parse(arguments)
        workdir, *classes = given or [None]
        _require(workdir, "the folder of a run")
        trusted = values.custom_objects or ()
        checks.check_advgan_run(workdir, values.epochs, values.data_dir, trusted)
        same = command_line("advgan", sys.argv[1:] if arguments is None else arguments)
        interruption.hint = lambda: f"; continue with: {same}"
        from aigan_tf.training.advgan import train_advgan

        train_advgan(workdir, classes, values.epochs, values.data_dir, values.strategy, trusted)


def export(arguments: Sequence[str] | None = None) -> None:
    """Exports the generator of a finished run once more, as the next version.

    python -m aigan_tf export runs/cifar10 --export_classifier

    onnx writes generator.onnx, and keras model.keras, into the run's folder.
    """
    with exit_status():
        flags = Flags(export.__doc__, ("WORKDIR",))
        text = "a SavedModel for TensorFlow Serving, ONNX (needs the extra [onnx]) or a Keras file"
        flags.add(str, "format", FORMATS[0], text, choices=FORMATS)
        _add_data_dir(flags)
        _add_export_classifier(flags)
        text = "compute in bfloat16, for a processor with instructions for it; inputs and outputs stay float32"
        flags.add(bool, "bfloat16", False, text)
        _add_custom_objects(flags)
        given, values = flags.parse(arguments)
        (workdir,) = given or [None]
        _require(workdir, "the folder of a finished run")
        check_format(values.format, values.export_classifier, values.bfloat16)
        trusted = values.custom_objects or ()
        checks.check_finished_run(workdir, values.data_dir, trusted, with_classifier=values.export_classifier)
        from aigan_tf.training.run import export_run

        export_run(workdir, values.data_dir, values.export_classifier, trusted, values.bfloat16, values.format)


def client(arguments: Sequence[str] | None = None) -> None:
    """Asks a served generator for the adversarial image of an image file.

    python -m aigan_tf client --rest=localhost:8501 --image=cat.png \\
        --target=dog --out=adversarial.png
    """
    with exit_status():
        from aigan_tf.serving.client import attack_file
        from aigan_tf.serving.connections import MODEL, GrpcServer, RestServer

        flags = Flags(client.__doc__)
        group = "server"
        flags.add(str, "rest", None, "HOST:PORT or URL of TensorFlow Serving's REST interface (port 8501)", group)
        flags.add(str, "grpc", None, "HOST:PORT of its gRPC interface, instead of --rest (port 8500)", group)
        flags.add(str, "model", MODEL, "name the generator is served under", group)
        flags.add(float, "timeout", 60.0, "seconds to wait for an answer, from 0.001 to a million", group)
        group = "picture"
        flags.add(str, "image", None, "image file of the size the generator takes", group, "none, required")
        flags.add(str, "target", None, "target class, by name or number", group)
        flags.add(str, "label", None, "true class, instead of --target if the generator is untargeted", group)
        flags.add(str, "out", None, "PNG file to write", group, "none, required")
        _, values = flags.parse(arguments)
        for one, other, example in (("rest", "grpc", "localhost:8501"), ("target", "label", "dog")):
            if (values[one].value is None) == (values[other].value is None):
                given = "neither" if values[one].value is None else "both"
                raise InputError(f"{given} of --{one} and --{other}", "one of them", f"give e.g. --{one}={example}")
        for name, example in (("image", "cat.png"), ("out", "adversarial.png")):
            if values[name].value is None:
                raise InputError(f"no --{name}", "a file", f"give e.g. --{name}={example}")
        if not 0.001 <= values.timeout <= 1e6:
            raise InputError(values.timeout, "seconds, from 0.001 to a million", "give e.g. 60", setting="timeout")
        server = (RestServer if values.rest else GrpcServer)(values.rest or values.grpc, values.model, values.timeout)
        class_input = "target_class" if values.target else "label"
        attack_file(server, values.image, values.out, values.target or values.label, class_input)


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


def runs(arguments: Sequence[str] | None = None) -> None:
    """Lists the runs of a folder, by default runs: settings, success, state.

    python -m aigan_tf runs pretrained

    The newest comes last. Success is that of report.json, on the test split.
    """
    with exit_status():
        given, _ = Flags(runs.__doc__, ("FOLDER",)).parse(arguments)
        (folder,) = given or ["runs"]
        from aigan_tf.runs import table_of_runs

        say(table_of_runs(folder, WIDTH))


COMMANDS = {
    "train": train, "evaluate": evaluate, "attack": attack, "demo": demo, "runs": runs, "advgan": advgan, "export": export,
    "client": client,
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
    group = "what is measured"
    flags.add(list, "workdir", ["runs/digits"], "folder of a finished run; several, by comma, are compared", group)
    text = (
        f"attacks by comma: {', '.join(ATTACKS)}; aigan+2 takes 2 steps of PGD from aigan's images that fail, pgd-10 is PGD "
        "with 10 steps"
    )
    flags.add(list, "attacks", ["aigan"], text, group)
    text = (
        "other classifiers to test the adversarial images on, by comma: folders of runs, architectures such as resnet20, "
        "or files that expect the run's input_range"
    )
    flags.add(list, "transfer_to", None, text, group)
    _add_custom_objects(flags, group)
    group = "images"
    default = "all, of which attacks on images above 64 x 64 are drawn; 1000 with attacks that follow gradients or several runs"
    flags.add(int, "num_examples", None, "number of test images, from the first; 0: all", group, default)
    _add_data_dir(flags, group)
    group = "output"
    default = "named by the time, in WORKDIR/evaluation; in runs/defenses for several runs"
    flags.add(str, "output", None, "new folder for the report as HTML, JSON and CSV", group, default)
    flags.add(str, "save_images", None, "new folder for the adversarial images and their manifest.csv", group)


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


def _add_time(flags, group):
    text = (
        "do all that precedes training and a few steps of it, print how long a run will take, and stop; writes nothing"
    )
    flags.add(bool, "check", False, text, group)
    text = (
        "choose the epochs of a new run, in the proportion of the defaults, so that the whole command ends within so many "
        "minutes: the classifier's training, the generator's and the evaluation"
    )
    flags.add(float, "minutes", None, text, group, "no limit: the epochs are as set")


def _check_minutes(values):
    if values.minutes is None:
        return
    if not 0 < values.minutes < float("inf"):
        raise InputError(values.minutes, "a number of minutes above 0", "give e.g. 30", setting="minutes")
    for name in ("stage1_epochs", "stage2_epochs"):
        if values[name].value is not None:
            expected = f"no `{name}` beside it, since it chooses the epochs"
            raise InputError(values.minutes, expected, "leave one of them out", setting="minutes")


def _add_custom_objects(flags, group=""):
    text = "Python files that the runs were trained with, by comma; they are executed"
    flags.add(list, "custom_objects", None, text, group)


def _require(workdir, expected):
    if not workdir:
        raise InputError("no WORKDIR", expected, "give e.g. runs/digits")
