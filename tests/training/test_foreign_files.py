"""Folders made by someone else, and the user's own files that changed since a run began."""

import shutil

import pytest
import tensorflow as tf
from runs import change_config

from aigan_tf.errors import InputError
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.evaluation.defences import compare_defences
from aigan_tf.training.advgan import train_advgan
from aigan_tf.training.run import export_run, train_and_export
from aigan_tf.workdir import Workdir, config_of, digests_of


@pytest.fixture
def foreign(run_folder, tmp_path):
    """A run's folder with a classifier of its own, whose config.json names Python that leaves the file "ran"; both files."""
    own, code = tmp_path / "own.keras", run_folder / "layers.py"
    shutil.copy(run_folder / "classifier.keras", own)
    code.write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    change_config(run_folder, classifier=str(own), classifier_epochs=None, custom_objects=str(code))
    return run_folder, own, code


@pytest.mark.parametrize("use", ["evaluated", "compared", "shown images", "exported", "advgan"])
def test_python_named_by_a_folder_runs_only_if_the_user_names_it_too(use, foreign, finished, tmp_path):
    folder, _, code = foreign

    def attempt(named):
        few = dict(num_examples=5, output=str(tmp_path / "out"), custom_objects=named)
        if use == "evaluated":
            evaluate_workdir(folder, **few)
        elif use == "compared":
            compare_defences([str(finished[0]), str(folder)], **few)
        elif use == "shown images":
            evaluate_workdir(finished[0], transfer_to=(str(folder),), **few)
        elif use == "exported":
            export_run(folder, export_classifier=True, custom_objects=named)
        else:
            train_advgan(folder, ["3"], epochs=1, custom_objects=named)

    other = tmp_path / "other.py"
    other.write_text("")
    for named in ((), (str(other),)):
        with pytest.raises(InputError, match=str(code)) as error:
            attempt(named)
        assert error.value.setting == "custom_objects"
    with pytest.raises(InputError, match="no/such") as error:
        attempt(("no/such.py",))
    assert error.value.setting == "custom_objects"
    assert not (folder / "ran").exists()
    if use not in ("compared", "advgan"):  # which take half a minute
        attempt((str(other), str(code.parent / ".." / "run" / code.name)))
        assert (folder / "ran").exists()


def write_images(folder):
    for split in ("train", "test"):
        for name in "ab":
            (folder / split / name).mkdir(parents=True)
            for k in range(2):
                png = tf.io.encode_png(tf.fill((8, 8, 1), tf.cast(k, tf.uint8))).numpy()
                (folder / split / name / f"{k}.png").write_bytes(png)


@pytest.mark.parametrize("changed", ["dataset", "class_names", "classifier", "custom_objects"])
def test_own_files_that_changed_since_are_seen(changed, foreign, tmp_path):
    folder, own, code = foreign
    names, images = tmp_path / "names.txt", tmp_path / "images"
    names.write_text("\n".join(f"digit {k}" for k in range(10)))
    paths = {"dataset": images, "class_names": names, "classifier": own, "custom_objects": code}
    if changed == "dataset":  # the run's generator does not fit it: only what comes before that is tested
        write_images(images)
    change_config(folder, **({"dataset": str(images)} if changed == "dataset" else {"class_names": str(names)}))
    config = config_of(Workdir(folder))
    own_settings = ["classifier", "custom_objects", "dataset" if changed == "dataset" else "class_names"]
    digests = digests_of(config, own_settings)
    assert set(digests) == set(own_settings)
    change_config(folder, digests=digests)
    attempts = [
        lambda: evaluate_workdir(folder, num_examples=5, custom_objects=[str(code)]),
        lambda: export_run(folder, export_classifier=True, custom_objects=[str(code)]),
        lambda: train_and_export(config, folder),
    ]
    if changed != "dataset":
        attempts[0]()
    if changed == "dataset":
        (images / "test" / "a" / "1.png").write_bytes(tf.io.encode_png(tf.zeros((8, 8, 1), tf.uint8)).numpy())
    else:
        replacements = {
            "class_names": names.read_bytes()[::-1],
            "custom_objects": code.read_bytes().replace(b"ran", b"ran again"),
        }
        paths[changed].write_bytes(replacements.get(changed, own.read_bytes() + b"\0"))
    for attempt in attempts[: 1 if changed == "dataset" else 3]:
        assert not (folder / "ran again").exists()
        with pytest.raises(InputError, match="changed since") as error:
            attempt()
        assert error.value.setting == changed
    assert [entry.name for entry in (folder / "generator").iterdir()] == ["1"]
