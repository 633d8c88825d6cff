"""Reads the runs of docs/results: settings, report, history of the epochs, and the command that repeats a run.

Settings are read as they stand in config.json. No `Config` is made from them, since earlier versions had other
settings.
"""

import dataclasses
import json
import pathlib
from collections.abc import Collection, Iterable

from aigan_tf.config import ADDED, make_config
from aigan_tf.files import read_csv

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
ARCHIVE = RESULTS / "archive"
COMPARISON = "evaluation/report.json"
FILES = ("config.json", "report.json", "metrics.csv", "classifier_metrics.csv")

# What a setting was in runs that are older than it and whose config.json names no format.
BEFORE = ADDED | {
    "bound": "tanh",
    "optimizer": "adam",
    "mixed_precision": False,
    "class_maps": 0,
    "discriminator_width": 32,
}
# Settings of earlier versions, with the value that stands for what train.py does today.
GONE = {"bound": "projection", "optimizer": "muon"}

# Where CIFAR's presets of version 0.1 differ from today's; all of its runs have these settings.
RECIPE_0_1 = {
    "gan_weight": 0.005,
    "hinge_weight": 0.02,
    "hard_targets": False,
    "max_shift": 0,
    "classifier_features": False,  # last: those on CIFAR-10 need not say it
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run.

    Args:
        folder: its name is that of the run.
        config: the settings, as in config.json.
        report: what was measured on the test split.
        epochs: rows of metrics.csv, as text.
        classifier_epochs: rows of classifier_metrics.csv; empty if the classifier was given.
    """

    folder: pathlib.Path
    config: dict
    report: dict
    epochs: list[dict[str, str]]
    classifier_epochs: list[dict[str, str]]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def data_set(self) -> str:
        return self.config["dataset"]

    def of_stage(self, stage: int) -> list[dict[str, str]]:
        """Returns the epochs of one stage."""
        return [epoch for epoch in self.epochs if epoch["stage"] == str(stage)]


def read_run(folder: pathlib.Path) -> Run:
    """Reads the files of a run; the two histories may be missing."""
    config, report = (json.loads((folder / name).read_text()) for name in FILES[:2])
    return Run(folder, config, report, *(read_csv(folder / name) for name in FILES[2:]))


def published_settings(folder: pathlib.Path) -> dict:
    """Returns the settings of a run, as in its config.json, without the machine's folder of data sets."""
    config = json.loads((folder / "config.json").read_text())
    config.pop("data_dir", None)
    return config


def current_runs() -> list[Run]:
    """Returns the runs that no other one supersedes, by data set and name."""
    return _runs_in(RESULTS)


def archived_runs() -> list[Run]:
    """Returns the superseded runs, by data set and name."""
    return _runs_in(ARCHIVE)


def superseded_by() -> dict[str, str]:
    """Returns the name of each archived run, and of the run that supersedes it."""
    return json.loads((ARCHIVE / "superseded_by.json").read_text())


def _runs_in(folder: pathlib.Path) -> list[Run]:
    runs = (read_run(path.parent) for path in folder.glob("*/report.json"))
    return sorted(runs, key=lambda run: (run.data_set, run.name))


def epsilon_text(epsilon: float) -> str:
    """Returns a budget as `8/255` if it is a whole number of grey levels, else as a fraction such as `0.3`."""
    levels = round(255 * epsilon)
    return f"{levels}/255" if abs(255 * epsilon - levels) < 1e-6 else f"{epsilon:g}"


def minutes(epochs: Iterable[dict[str, str]]) -> str:
    """Returns the time of the epochs together; empty if there are none."""
    seconds = [float(epoch["seconds"]) for epoch in epochs]
    return f"{sum(seconds) / 60:.1f}" if seconds else ""


def classifier_name(classifier: str) -> str:
    """Returns an architecture as it is, and a classifier's file without folders and ending."""
    path = pathlib.PurePath(classifier)
    return f"{path.parent.name}/{path.name}" if path.stem == "classifier" else path.stem


def changed_settings(config: dict) -> dict[str, str]:
    """Returns the settings of a run that differ from its data set's preset, as train.py takes them."""
    preset = GONE | dataclasses.asdict(make_config(dataset=config["dataset"]))
    before = ADDED if "format" in config else BEFORE
    settings = config | {name: value for name, value in before.items() if name not in config}
    if settings.get("switch") == "fixed":  # stage 1 took all of its epochs
        settings["switch_success"] = 1.0
    compared = preset.keys() - {"dataset"}
    return {
        name: setting_text(name, value)
        for name, value in settings.items()
        if name in compared
        and setting_text(name, value) != setting_text(name, preset[name])
        and (value or preset[name] is not None or "format" in config)  # early runs have 0 and "" in the place of None
    }


def flags(config: dict) -> list[str]:
    """Returns `changed_settings` as flags."""
    return [f"--{name}" if value == "true" else f"--{name}={value}" for name, value in changed_settings(config).items()]


def command(config: dict, name: str, left_out: Collection[str] = ()) -> str:
    """Returns the command of a run whose work folder is called `name`; one more for each time it got more epochs.

    `left_out`: flags that are not shown.
    """
    data_set = [f"--dataset={config['dataset']}"] if config["dataset"] != "digits" else []
    workdir = [f"--workdir=runs/{name}"] if name != config["dataset"] else []
    ends = [extension["after_epochs"] - config["stage1_epochs"] for extension in config.get("extensions", [])]
    begun = config | {"stage2_epochs": ends[0]} if ends else config
    longer = [*ends[1:], config["stage2_epochs"]] if ends else []
    settings = [flag for flag in flags(begun) if flag not in left_out]
    commands = [" ".join(["python train.py", *data_set, *settings, *workdir])]
    commands += [f"python train.py --workdir=runs/{name} --stage2_epochs={epochs}" for epochs in longer]
    return " && ".join(commands)


def setting_text(name: str, value: object) -> str:
    """Returns the value of a setting as its flag takes it."""
    if name == "epsilon":
        return epsilon_text(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(setting_text(name, part) for part in value)
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)  # in full, to repeat the run
