"""Paths of a run's folder, its lock, and integrity checks."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Collection

from aigan_tf.config import ADDED, FITTED, FORMAT, Config, is_built_in, refuse_idle_settings
from aigan_tf.errors import InputError, shown_value
from aigan_tf.files import (
    latest_version,
    locked,
    read_bytes,
    read_csv,
    unfinished_name,
    user_path,
    visible_files,
    write_json,
    writing,
)
from aigan_tf.provenance import commit, package_versions
from aigan_tf.terminal import progress

_RESTORE = "restore it, or choose another `workdir`"


class Workdir:
    """The paths of one run. Nothing is created until something is written.

    Args:
        path: the folder.

    Raises:
        InputError: it cannot be a path, or not one of TensorFlow, which takes UTF-8 alone.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = user_path(path)
        if not _is_text(self.path):
            raise InputError(str(path), "a name in UTF-8", "choose another", setting="workdir", problem="is not text")
        self.lock = self.path / ".lock"
        self.config = self.path / "config.json"
        self.digests = self.path / "digests.json"
        self.classifier = self.path / "classifier.keras"
        self.features = self.path / "features.keras"
        self.classifier_metrics = self.path / "classifier_metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.stage1_weights = self.path / "generator_stage1.weights.h5"
        self.weights = self.path / "generator.weights.h5"
        self.exports = self.path / "generator"
        self.logs = self.path / "logs"
        self.metrics = self.path / "metrics.csv"
        self.samples = self.path / "samples"
        self.report = self.path / "report.json"
        self.other_lines = self.path / "tensorflow.log"
        self.evaluation = self.path / "evaluation"
        self.advgan = self.path / "advgan"
        self.surrogate = self.path / "surrogate"

    @property
    def is_trained(self) -> bool:
        """Whether training is over: its weights are there, or its export alone, as in a folder under pretrained/."""
        return self.weights.exists() or (self.exports.is_dir() and not self.checkpoints.exists())

    @property
    def has_checkpoint(self) -> bool:
        """Whether the generator's training has left a state from which it continues."""
        return any(self.checkpoints.glob("aigan/ckpt-*.index"))

    @property
    def generator_begun(self) -> bool:
        """Whether the generator has weights or a checkpoint of its own already, so that what it began from counts no more."""
        return self.weights.exists() or self.has_checkpoint

    @property
    def generator(self) -> pathlib.Path | None:
        """The generator's weights or, in a folder without them such as those of pretrained/, its newest export; or None."""
        return self.weights if self.weights.is_file() else latest_version(self.exports)

    @contextlib.contextmanager
    def locked(self):
        """Keeps other runs out of the folder while the block lasts; the lock of a dead process does not count.

        Raises:
            InputError: another run is in it, or it cannot be written, now or while the block lasts.
        """
        with writing(self.path, self.path, setting="workdir"), contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self.lock, wait=False))
            except BlockingIOError as error:
                raise InputError(
                    self.path,
                    "one run at a time",
                    "wait for it, or choose another folder",
                    setting="workdir",
                    problem="is in use by another run",
                ) from error
            held.callback(self._remove_unfinished)
            self._remove_unfinished()  # of a process that was killed
            yield

    def is_locked(self) -> bool:
        """Whether a run is in the folder now."""
        if not self.lock.exists():
            return False
        try:
            with locked(self.lock, wait=False):
                return False
        except BlockingIOError:
            return True
        except (OSError, InputError):
            return False  # of another user, say

    def _remove_unfinished(self):
        """Removes unfinished files of this run and of those below it that have no lock of their own.

        A full disk or a kill leaves parts of checkpoints, a kill those of other files too. Files that are written without
        the lock stay, since an evaluation may be running.
        """
        for run in (self.path, *self.path.glob("advgan/*"), *self.path.glob("ensemble/*"), self.surrogate):
            unfinished = list(run.glob("checkpoints/*/*_temp"))  # TensorFlow's
            for folder in (run, run / "samples"):
                unfinished += filter(_is_unfinished_file, folder.glob(".*"))
            unfinished += filter(unfinished_name, (run / "generator").glob(".*"))
            for entry in unfinished:
                shutil.rmtree(entry, ignore_errors=True)

    def check(self, settings: dict, digests: dict | None = None, extend: bool = False) -> bool:
        """Returns whether a run with these settings exists here; writes nothing.

        Args:
            settings: name to value.
            digests: digests of the user's own files, by the setting that names them.
            extend: whether the settings may ask for more epochs of stage 2 than the run was begun with.

        Raises:
            InputError: the folder holds something else, or a run with other settings or other files.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(self.path, "a folder", "choose another name", setting="workdir", problem="is a file")
        if self.config.exists():
            self._refuse_files_as_folders()
            before = self.read_config()
            changed = {
                name: f"{name}={_as_saved(before.get(name))} (not {_as_saved(value)})"
                for name, value in settings.items()
                if not (value is None and name in FITTED)  # it then stays what the images decided
                and json.dumps(before.get(name)) != json.dumps(value)  # in Python True == 1 and 0.0 == 0
            }
            if extend and settings["stage2_epochs"] > config_of(self).stage2_epochs:
                self._require_checkpoints(settings["stage2_epochs"])
                del changed["stage2_epochs"]
            if changed:
                expected, fix = "the same settings", "give them as they were, or another `workdir`"
                if extend:
                    expected += ", or more `stage2_epochs`"
                    fix = "to continue it give `workdir` alone, or choose another"
                problem = f"holds a run with {', '.join(changed.values())}"
                raise InputError(self.path, expected, fix, setting="workdir", problem=problem)
            self.compare(settings, digests or {})
            return True
        if self.path.exists() and not all(map(self._precedes_config, self.path.iterdir())):
            raise InputError(
                self.path,
                "a new folder, or one of an earlier run",
                "choose a new folder",
                setting="workdir",
                problem="is not empty and has no config.json",
            )
        return False

    def _require_checkpoints(self, stage2_epochs):
        """Refuses more epochs of a finished run without checkpoints: weights alone are not enough."""
        if self.is_trained and not self.has_checkpoint:
            raise InputError(
                stage2_epochs,
                "the discriminator and both optimizers' state, which only its checkpoints hold",
                f"restore {self.checkpoints}, or train from the start in another `workdir`",
                setting="stage2_epochs",
                problem=f"is more than the finished run in {self.path} has",
            )

    def _refuse_files_as_folders(self):
        """Refuses files in the place of folders, which would end training when it first writes there."""
        parts = [self.checkpoints / part for part in ("classifier", "aigan")]
        parts += [self.logs / part for part in ("train", "validation", "samples")]
        for folder in (self.checkpoints, self.exports, self.logs, self.samples, self.advgan, *parts):
            if os.path.lexists(folder) and not folder.is_dir():
                raise InputError(f"{folder} is not a folder", "a folder, or nothing", "remove it")

    def compare(self, settings: dict, digests: dict) -> None:
        """Checks that the user's own files are those the run began with; one without a digest passes.

        Args:
            settings, digests: as in `check`.

        Raises:
            InputError: they differ, or config.json is damaged.
        """
        known = self.read_config().get("digests", {})
        if not isinstance(known, dict):
            raise InputError(known, "the digests train.py wrote", _RESTORE, setting="digests", place=str(self.config))
        for name, digest in digests.items():
            if known.get(name, digest) != digest:
                raise InputError(
                    settings[name],
                    "the same content",
                    _RESTORE,
                    setting=name,
                    problem=f"has changed since the run in {self.path} began",
                )

    def _precedes_config(self, entry):
        """Whether a run killed before it wrote config.json may have left this."""
        return entry.name.startswith(self.lock.name) or (
            _is_unfinished_file(entry) and unfinished_name(entry) == self.config.name
        )

    def open(self, settings: dict, digests: dict, data_dir: str | None = None, extend: bool = False) -> bool:
        """Claims the folder for a run with these settings: writes config.json if it is new or gets more epochs.

        Args:
            settings, digests, extend: as in `check`.
            data_dir: folder of TFDS data sets, remembered for later commands; None for the one remembered.

        Returns:
            Whether the run exists here already.

        Raises:
            InputError: as `check`, or the folder cannot be written.
        """
        made_by = {"versions": package_versions(), "commit": commit()}
        if not self.check(settings, digests, extend):
            own = {} if data_dir is None else {"data_dir": data_dir}
            write_json(self.config, {"format": FORMAT, **settings, "digests": digests, **made_by, **own})
            return False
        before = self.read_config()
        changes = {} if data_dir in (None, before.get("data_dir")) else {"data_dir": data_dir}
        if extend and settings["stage2_epochs"] != before["stage2_epochs"]:
            epochs = before["stage1_epochs"] + before["stage2_epochs"]
            changes["stage2_epochs"] = settings["stage2_epochs"]
            changes["extensions"] = [*before.get("extensions", []), {"after_epochs": epochs, **made_by}]
            self._set_aside(epochs)
        if changes:
            write_json(self.config, before | changes)
        return True

    def _set_aside(self, epochs):
        """Renames the weights of a finished run that is to be continued, which mark it as finished.

        Call it before config.json has the new number of epochs: a run killed between the two writes them again.
        """
        if self.weights.exists():
            kept = self.path / f"generator_{epochs}_epochs.weights.h5"
            self.verify(self.weights)
            self.seal(kept, self.weights)
            os.replace(self.weights, kept)

    def restarts(self) -> list[int]:
        """Returns the epochs after which the run was to end before it was given more, increasing.

        Raises:
            InputError: config.json is damaged.
        """
        if not self.config.exists():
            return []  # trained from Python
        config = self.read_config()
        try:
            epochs = [extension["after_epochs"] for extension in config.get("extensions", [])]
            together = [0, *epochs, config["stage1_epochs"] + config["stage2_epochs"]]
            if not all(type(epoch) is int for epoch in epochs) or together != sorted({*together}):
                raise ValueError
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.config}: extensions cannot be read", "increasing numbers of epochs, as train.py wrote", _RESTORE
            ) from error
        return epochs

    def data_dir(self, given: str | None = None) -> str | None:
        """Returns the folder of TFDS data sets: the given one, else the one that the run was last given, or None.

        Raises:
            InputError: config.json is damaged.
        """
        if given or not self.config.exists():
            return given
        data_dir = self.read_config().get("data_dir")
        if not isinstance(data_dir, str | None):
            raise InputError(data_dir, "a folder", _RESTORE, setting="data_dir", place=str(self.config))
        return data_dir

    def read_config(self) -> dict:
        """Returns config.json. A setting that came after it has the value that stands for what runs before it did.

        Raises:
            InputError: there is none, or it is not JSON of this format.
        """
        try:
            config = json.loads(read_bytes(self.config).decode())
        except FileNotFoundError as error:
            raise InputError(
                self.path,
                "the folder of a finished run",
                "correct the path, or train first",
                setting="workdir",
                problem="has no config.json",
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.config} cannot be read", "the JSON train.py wrote", _RESTORE) from error
        if not isinstance(config, dict):
            raise InputError(f"{self.config} holds no JSON object", "the JSON train.py wrote", _RESTORE)
        if config.get("format") != FORMAT:
            raise InputError(
                config.get("format"),
                f"{FORMAT}, the format that this version of aigan_tf reads",
                "use the version that wrote it, or train again",
                setting="format",
                place=str(self.config),
            )
        return {field.name: field.default for field in dataclasses.fields(Config)} | ADDED | config

    def seal(self, path: pathlib.Path, temporary: pathlib.Path) -> None:
        """Records the SHA-256 digest of a file, or of each file of a folder, in digests.json.

        Call it before the file gets its final name: a run killed between the two writes the file again. In the other order
        the file would stay unrecorded.

        Args:
            path: the final name.
            temporary: the finished file or folder under its temporary name.
        """
        files = [file for file in temporary.rglob("*") if file.is_file()] if temporary.is_dir() else [temporary]
        place = path.relative_to(self.path)
        sealed = {(place / file.relative_to(temporary)).as_posix(): digest_of(file) for file in files}
        write_json(self.digests, self._sealed() | sealed)

    def verify(self, path: pathlib.Path) -> None:
        """Verifies recorded SHA-256 digests; missing or unrecorded files pass.

        Raises:
            InputError: a file has another digest.
        """
        if not path.exists():
            return  # the caller handles a missing file
        for name, digest in self._sealed().items():
            file = self.path / name
            if path in (file, *file.parents) and (not os.path.isfile(file) or digest_of(file) != digest):
                raise InputError(
                    f"{file} is not what train.py wrote, by its digest in {self.digests.name}",
                    "the same content",
                    f"restore it, or delete {path} and run train.py again",
                )

    def _sealed(self):
        try:
            sealed = json.loads(read_bytes(self.digests))
            if any(name.startswith("/") or ".." in name.split("/") for name in sealed):
                raise ValueError("a file outside this folder")
            return {name: str(digest) for name, digest in sealed.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(
                f"{self.digests} cannot be read", "the digests train.py wrote", "restore it, or delete it to go without"
            ) from error

    def training_cost(self, black_box: bool) -> tuple[float, int]:
        """Returns training time in seconds (surrogate included) and the number of classifier queries.

        Args:
            black_box: whether the classifier was queried at all; else the number is 0.

        Raises:
            InputError: metrics.csv does not hold them.
        """
        rows = read_csv(self.metrics)
        surrogate = read_csv(Workdir(self.surrogate).classifier_metrics) if black_box else []
        try:
            seconds = [float(row["seconds"]) for row in [*rows, *surrogate]]
            queries = int(rows[-1]["queries"]) if black_box else 0
            if not all(0 <= value < math.inf for value in [*seconds, queries]) or not rows:
                raise ValueError
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.metrics} does not say how long training took",
                f"a row per epoch with its seconds{' and queries' if black_box else ''}, as train.py wrote it",
                "restore it from a copy",
            ) from error
        return sum(seconds), queries

    def training_device(self) -> str | None:
        """Returns the device in report.json; None if there is none, as in an unfinished run."""
        try:
            device = json.loads(read_bytes(self.report))["device"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None  # only a note on the training time
        return device if isinstance(device, str) and device.isprintable() else None


def _is_unfinished_file(entry):
    """Whether it is what `atomic_file` leaves if it is killed, not `atomic_folder`."""
    name = unfinished_name(entry)
    return name is not None and not (entry / name).is_dir()


def _is_text(path):
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def _as_saved(value):
    return shown_value(value) if isinstance(value, float) and value else json.dumps(value)


def digest_of(path: pathlib.Path) -> str:
    """Returns a digest of a file, or of all files below a folder and their names, through links and without hidden files.

    Raises:
        InputError: one of them cannot be read, or there is none.
    """
    digest = hashlib.sha256()
    files = [*filter(pathlib.Path.is_file, visible_files(path))] if path.is_dir() else [path]
    if not files:
        raise InputError(f"{path} holds no files", "files", "correct the path")
    for file in progress(files, "Comparing files", " files"):
        digest.update(os.fsencode(file.relative_to(path).as_posix()) + b"\0")
        try:
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise InputError(
                f"{file} cannot be read ({error.strerror})", "a readable file", "change its permissions"
            ) from error
    return digest.hexdigest()


def config_of(folder: Workdir) -> Config:
    """Returns the settings of a run from its folder.

    Raises:
        InputError: there are none, or they are not what train.py wrote.
    """
    saved = folder.read_config()
    try:
        config = Config(**{field.name: saved[field.name] for field in dataclasses.fields(Config)})
        refuse_idle_settings(config)
    except InputError as error:
        raise error.within(folder.config) from error
    return config


def digests_of(config: Config, names: Collection[str]) -> dict[str, str]:
    """Returns the digests of the user's own files that settings name, by setting; missing files have none.

    Args:
        config: the settings.
        names: the settings: "dataset" (only if it is a folder of images), "class_names", "classifier", "custom_objects",
            "init_from", of which the generator counts.

    Raises:
        InputError: a file cannot be read.
    """
    own = {name: getattr(config, name) for name in names}
    if "classifier" in own and is_built_in(config.classifier):
        del own["classifier"]
    paths = {name: user_path(value) for name, value in own.items() if value}
    if "init_from" in paths:
        paths["init_from"] = Workdir(paths["init_from"]).generator
    return {name: digest_of(path) for name, path in paths.items() if path and (path.is_file() or path.is_dir())}
