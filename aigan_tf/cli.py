"""The commands: flags to a Config to one call."""

import dataclasses
import signal
import sys

from absl import app, flags, logging

from aigan_tf.config import PRESETS, Config, make_config
from aigan_tf.errors import DivergedError, InputError, Terminated, user_path

_DEFINE = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}


def define_train_flags() -> None:
    """Defines one flag for each field of `Config` (None: as the data set's preset says), the folders and the method."""
    for field in dataclasses.fields(Config):
        presets = [f"{name}: {preset[field.name]}" for name, preset in PRESETS.items() if field.name in preset]
        default = f"default {field.default!r}" + (f"; {', '.join(presets)}" if presets else "")
        _DEFINE[field.type](field.name, None, f"{field.metadata['help']} ({default})")
    flags.DEFINE_string(
        "workdir", None, "folder of the run (default runs/DATASET); a second run on it continues the first"
    )
    flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
    flags.DEFINE_enum(
        "method", "aigan", ["aigan", "advgan"], "advgan: train the AdvGAN baseline in the same work folder"
    )
    flags.DEFINE_string("target_class", None, "of --method=advgan: all, or names or numbers of classes, by comma")
    flags.DEFINE_integer("advgan_epochs", None, "epochs of each AdvGAN generator (default: those of both stages)")
    flags.DEFINE_enum(
        "strategy", "none", ["none", "mirrored", "multiworker"],
        "train the generator on one device, on all GPUs of this machine, or in one process for each worker of TF_CONFIG",
    )  # fmt: skip
    flags.DEFINE_bool("export_classifier", False, "put the classifier into the SavedModel, for its signature classify")
    flags.DEFINE_bool(
        "export_again", False, "only export the finished run in --workdir again, as the next version; no other settings"
    )


def run(main, going_on: str = "") -> None:
    """Runs `main()` under absl; what ends it early becomes one line and an exit status.

    2 for an `InputError`, 1 for a `DivergedError`, and as shells have it 130 for Ctrl-C and 143 for SIGTERM.

    Args:
        main: what to do.
        going_on: what the line of an interruption says besides.
    """

    def guarded(arguments):
        logging.set_verbosity(logging.WARNING)  # TensorFlow's notes on how it saves are no news to a user
        # Python's own answer to SIGTERM would leave half-written files behind.
        before = signal.signal(signal.SIGTERM, terminate)
        try:
            if len(arguments) > 1:
                raise InputError(f"unexpected argument {arguments[1]!r}; expected only --flag=value: see --help")
            main()
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except DivergedError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except Terminated:
            print(f"\nterminated{going_on}", file=sys.stderr)
            sys.exit(143)
        except KeyboardInterrupt:
            print(f"\ninterrupted{going_on}", file=sys.stderr)
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, before)

    def terminate(number, frame):
        raise Terminated

    sys.set_int_max_str_digits(0)  # a number of any length is refused by its size, in a message that shows it
    for flag in flags.FLAGS.flags_by_module_dict().get(__name__, []):  # so that --help lists them, not only --helpfull
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(guarded, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
    """Parses the flags; a mistyped one is answered in one line too."""
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        refused = InputError(f"{error}; expected the flags that --help lists: correct it")
        print(f"error: {refused}", file=sys.stderr)
        sys.exit(2)


def train() -> None:
    """python train.py"""
    define_train_flags()

    def main():
        values = flags.FLAGS
        settings = {field.name: values[field.name].value for field in dataclasses.fields(Config)}
        given = {name: value for name, value in settings.items() if value is not None}
        if values.method == "aigan":
            for name in ("target_class", "advgan_epochs"):
                if values[name].value is not None:
                    raise InputError(
                        f"--{name}={values[name].value} has no effect; expected it only with --method=advgan"
                    )
        if values.export_again:
            if given or values.method != "aigan" or not values.workdir:
                unfit = f"--{next(iter(given))}" if given else "--method" if values.workdir else "no --workdir"
                raise InputError(
                    f"--export_again with {unfit}; expected --workdir of a finished run, and of other flags only --data_dir "
                    "and --export_classifier: the run has its settings"
                )
            from aigan_tf.training import export_again

            export_again(values.workdir, values.data_dir, values.export_classifier)
            return
        config = make_config(**given)
        # Here: TensorFlow takes seconds to import, and a mistyped flag should be answered at once.
        from aigan_tf.training import train_advgan, train_and_export

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
    """python evaluate.py"""
    flags.DEFINE_list(
        "workdir", ["runs/digits"], "work folder of a finished train.py; several, by comma, are set side by side"
    )
    flags.DEFINE_string("data_dir", None, "folder of TFDS data sets (default: TFDS's own)")
    flags.DEFINE_list("attacks", ["aigan"], "what to measure, by comma: aigan, aigan_stage1, advgan, fgsm, pgd, cw")
    flags.DEFINE_integer(
        "num_examples", None, "how many test images, from the first; 0: all (default all; 1000 beside fgsm, pgd or cw)"
    )
    flags.DEFINE_string(
        "output", None, "folder for report.html, report.json and report.csv (default evaluation in the work folder)"
    )
    flags.DEFINE_list(
        "transfer_to", [], "classifiers to show the generator's pictures to: work folders, files or resnet20, A, ..."
    )
    flags.DEFINE_string("save_images", None, "new folder for the adversarial pictures and their manifest.csv")

    def main():
        from aigan_tf.comparison import evaluate_workdir
        from aigan_tf.resistance import evaluate_defenses

        values = flags.FLAGS
        if not values.workdir:
            raise InputError("--workdir is empty; expected a work folder of train.py: give one")
        shared = values.data_dir, values.attacks, values.num_examples, values.output
        if len(values.workdir) == 1:
            evaluate_workdir(values.workdir[0], *shared, values.transfer_to, values.save_images)
            return
        for name in ("transfer_to", "save_images"):
            if values[name].value:
                raise InputError(f"--{name} with {len(values.workdir)} work folders: expected one: name one")
        evaluate_defenses(values.workdir, *shared)

    run(main)
