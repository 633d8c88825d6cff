"""What lies where in a work folder, and whether it is what its run left there."""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Collection

import filelock

from aigan_tf.config import Config, before_they_existed, is_built_in, refuse_idle_settings
from aigan_tf.data.datasets import ImageDataset
from aigan_tf.errors import InputError
from aigan_tf.files import read_bytes, read_csv, user_path, write_json, writing
from aigan_tf.provenance import commit, package_versions

# What `atomic_file`, and `atomic_folder` for an export, call what is not finished yet.
_UNFINISHED = re.compile(r"\.\d+\.(?P<name>.+)")
# What a desktop leaves in a folder that is looked at; by name, since an image may be hidden too.
_DESKTOP = {".DS_Store", ".directory", "Thumbs.db", "desktop.ini"}


class Workdir:
    """The paths of one run. Nothing is created until something is written.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = user_path(path)
        self.lock = self.path / ".lock"
        self.config = self.path / "config.json"
        self.digests = self.path / "digests.json"
        self.classifier = self.path / "classifier.keras"
        self.classifier_metrics = self.path / "classifier_metrics.csv"
        self.checkpoints = self.path / "checkpoints"
        self.stage1_weights = self.path / "generator_stage1.weights.h5"
        self.weights = self.path / "generator.weights.h5"
        self.exports = self.path / "generator"
        self.logs = self.path / "logs"
        self.metrics = self.path / "metrics.csv"
        self.samples = self.path / "samples"
        self.report = self.path / "report.json"
        self.evaluation = self.path / "evaluation"
        self.advgan = self.path / "advgan"

    @contextlib.contextmanager
    def locked(self):
        """Keeps the folder, made if need be, from other runs while the block lasts; a dead process holds nothing.

        Raises:
            InputError: another run is in it, or it cannot be written, now or while the block lasts.
        """
        with writing(f"--workdir={self.path}", self.path):
            lock = filelock.FileLock(self.lock)
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout as error:
                raise InputError(
                    f"--workdir={self.path} is in use by another run; expected one at a time: wait for it or choose another"
                ) from error
            with contextlib.ExitStack() as held:
                held.callback(lock.release)
                held.callback(self._remove_unfinished)
                self._remove_unfinished()  # of a process that was killed
                yield

    def _remove_unfinished(self):
        """Removes what was begun and is not finished, of this run and of those below that have no lock of their own.

        A full disk and a kill leave such parts of checkpoints, a kill those of other files too. Only what is written under
        the lock: an evaluation may be going on beside.
        """
        for run in (self.path, *self.path.glob("advgan/*"), *self.path.glob("ensemble/*"), self.path / "local_copy"):
            unfinished = list(run.glob("checkpoints/*/*_temp"))  # TensorFlow's
            for folder in (run, run / "samples", run / "generator"):
                unfinished += [entry for entry in folder.glob(".*") if _UNFINISHED.fullmatch(entry.name)]
            for entry in unfinished:
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)

    def check(self, settings: dict, defaults: dict, digests: dict | None = None) -> bool:
        """Whether a run with these settings was begun here before; writes nothing.

        Args:
            settings: name to number or string.
            defaults: what a setting was before it existed, for a folder of an earlier version.
            digests: setting to the digest of the files it names, where they are the user's own.

        Raises:
            InputError: the folder holds something else, or a run with other settings or other files.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--workdir={self.path} is a file; expected a folder: choose another name")
        if self.config.exists():
            parts = [self.checkpoints / part for part in ("classifier", "aigan")]
            parts += [self.logs / part for part in ("train", "validation", "samples")]
            for folder in (self.checkpoints, self.exports, self.logs, self.samples, self.advgan, *parts):
                if os.path.lexists(folder) and not folder.is_dir():  # training would end where it first writes there
                    raise InputError(f"{folder} is no folder; expected one, or nothing: remove it")
            before = self.read_config()
            for name, value in settings.items():
                saved = before.get(name, defaults.get(name))
                if json.dumps(saved) != json.dumps(value):  # to Python, True is 1 and 0.0 is 0
                    raise InputError(
                        f"--workdir={self.path} holds a run with {name}={saved!r}, this one has {value!r}; "
                        f"expected the same settings: give --{name}={saved} or another --workdir"
                    )
            self.compare(settings, digests or {})
            return True
        if self.path.exists() and not all(map(self._precedes_config, self.path.iterdir())):
            raise InputError(
                f"--workdir={self.path} is not empty and has no config.json; expected a new folder or one of an earlier "
                "run: choose another --workdir"
            )
        return False

    def compare(self, settings: dict, digests: dict) -> None:
        """Sees that the user's own files are those that the run was begun with; of one without a digest nothing is known.

        Args:
            settings, digests: as in `check`.

        Raises:
            InputError: they are not, or config.json does not tell.
        """
        known = self.read_config().get("digests", {})
        if not isinstance(known, dict):
            raise InputError(
                f"{self.config} has digests={known!r}; expected the digests train.py wrote: restore it, or choose another "
                "--workdir"
            )
        for name, digest in digests.items():
            if known.get(name, digest) != digest:
                raise InputError(
                    f"--workdir={self.path} holds a run with --{name}={settings[name]} whose files have changed since; "
                    "expected the same content: restore it or choose another --workdir"
                )

    def _precedes_config(self, entry):
        """Whether a run that was killed may have left this before its config.json."""
        begun = _UNFINISHED.fullmatch(entry.name)
        return entry == self.lock or (begun and begun["name"] == self.config.name)

    def open(self, settings: dict, defaults: dict, digests: dict) -> bool:
        """Claims the folder for a run with these settings, writing config.json if it is new.

        Args:
            settings, defaults, digests: as in `check`.

        Returns:
            Whether a run with the same settings was begun here before.

        Raises:
            InputError: as `check`, or the folder cannot be written.
        """
        if self.check(settings, defaults, digests):
            return True
        write_json(self.config, {**settings, "digests": digests, "versions": package_versions(), "commit": commit()})
        return False

    def read_config(self) -> dict:
        """Returns config.json.

        Raises:
            InputError: there is none, or it is not JSON.
        """
        try:
            config = json.loads(read_bytes(self.config).decode())
        except FileNotFoundError as error:
            raise InputError(
                f"--workdir={self.path} has no config.json; expected the work folder of a finished train.py: train first"
            ) from error
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{self.config} cannot be read; expected the JSON train.py wrote: restore it, or choose another --workdir"
            ) from error
        if not isinstance(config, dict):
            raise InputError(f"{self.config} holds no JSON object; expected the one train.py wrote: restore it")
        return config

    def seal(self, path: pathlib.Path, temporary: pathlib.Path) -> None:
        """Notes the digest of a file, or of each file of a folder, in digests.json.

        Before it gets its name: killed between the two, a run writes it anew; the other way round it would stay unsealed.

        Args:
            path: its name.
            temporary: where it lies, finished.
        """
        files = [file for file in temporary.rglob("*") if file.is_file()] if temporary.is_dir() else [temporary]
        place = path.relative_to(self.path)
        sealed = {(place / file.relative_to(temporary)).as_posix(): digest_of(file) for file in files}
        write_json(self.digests, self._sealed() | sealed)

    def verify(self, path: pathlib.Path) -> None:
        """Sees that a file or folder is as it was sealed; one that is missing, or was never sealed, is not looked at.

        Raises:
            InputError: it is not.
        """
        if not path.exists():
            return  # who wants to read it knows what its absence means
        for name, digest in self._sealed().items():
            file = self.path / name
            if path in (file, *file.parents) and (not os.path.isfile(file) or digest_of(file) != digest):
                raise InputError(
                    f"{file} is not what train.py wrote ({self.digests.name} knows its digest); expected the same content: restore "
                    f"it, or delete {path} and run train.py again"
                )

    def _sealed(self):
        try:
            sealed = json.loads(read_bytes(self.digests))
            if any(name.startswith("/") or ".." in name.split("/") for name in sealed):
                raise ValueError("a file that is not in this folder")
            return {name: str(digest) for name, digest in sealed.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise InputError(
                f"{self.digests} cannot be read; expected the digests train.py wrote: restore it, or delete it to go without"
            ) from error

    def training_cost(self, black_box: bool) -> tuple[float, int]:
        """Returns the seconds of the generator's training, with that of a local copy, and how many images the classifier was asked about by then.

        Args:
            black_box: whether it was asked at all; else that is 0.

        Raises:
            InputError: metrics.csv does not say.
        """
        rows = read_csv(self.metrics)
        copied = read_csv(self.path / "local_copy" / "classifier_metrics.csv") if black_box else []
        try:
            seconds = [float(row["seconds"]) for row in [*rows, *copied]]
            queries = int(rows[-1]["queries"]) if black_box else 0
            if not all(0 <= value < math.inf for value in [*seconds, queries]) or not rows:
                raise ValueError
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.metrics} does not tell what training took; expected a row an epoch with its seconds"
                f"{' and queries' if black_box else ''}, as train.py wrote it: restore it"
            ) from error
        return sum(seconds), queries

    def training_device(self) -> str | None:
        """Returns on what the run ended, as report.json says; None where it does not say (the run is not finished, say)."""
        try:
            device = json.loads(read_bytes(self.report))["device"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError, InputError):
            return None  # only told beside a time, which is known without it
        return device if isinstance(device, str) and device.isprintable() else None


def digest_of(path: pathlib.Path) -> str:
    """Returns a digest of a file, or of all files below a folder and their names, without what a desktop leaves behind.

    Raises:
        InputError: one of them cannot be read.
    """
    digest = hashlib.sha256()
    below = (entry for entry in path.rglob("*") if entry.is_file() and entry.name not in _DESKTOP)
    for file in sorted(below) if path.is_dir() else [path]:
        digest.update(os.fsencode(file.relative_to(path).as_posix()) + b"\0")
        try:
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
        except OSError as error:
            raise InputError(
                f"{file} cannot be read ({error.strerror}); expected a file that can: change that"
            ) from error
    return digest.hexdigest()


def config_of(folder: Workdir) -> Config:
    """Returns the settings of a run from its work folder.

    Raises:
        InputError: they are not there, or not what train.py wrote.
    """
    saved = folder.read_config()
    missing = [name for name in ("dataset", "classifier", "attack", "epsilon") if name not in saved]
    if missing:
        raise InputError(
            f"{folder.config} has no {missing[0]}; expected the settings train.py writes: restore the file or train again"
        )
    try:
        config = Config(**{name: saved.get(name, value) for name, value in before_they_existed().items()})
        refuse_idle_settings(config)
    except InputError as error:
        raise InputError(f"{folder.config}: {error}") from error
    return config


def digests_of(config: Config, names: Collection[str], dataset: ImageDataset | None = None) -> dict[str, str]:
    """Returns the digests of the user's own files that settings name, by setting; what is not there has none.

    Args:
        config: the settings.
        names: of them: "dataset", "class_names", "classifier", "custom_objects".
        dataset: with "dataset", what was loaded; only a folder of pictures has a digest.

    Raises:
        InputError: a file cannot be read.
    """
    own = {name: getattr(config, name) for name in names}
    if "dataset" in own and dataset.train.files is None:
        del own["dataset"]
    if "classifier" in own and is_built_in(config.classifier):
        del own["classifier"]
    paths = {name: user_path(value) for name, value in own.items() if value}
    return {name: digest_of(path) for name, path in paths.items() if path.is_file() or path.is_dir()}
