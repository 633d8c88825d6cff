"""Folders made by someone else, and the user's own files that changed since a run began."""

import shutil

import pytest
from tiny_runs import change_config

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


@pytest.mark.parametrize(
    ("use", "slow"),
    [
        (lambda run, other, named, few: evaluate_workdir(run, custom_objects=named, **few), False),
        (lambda run, other, named, few: compare_defences([other, str(run)], custom_objects=named, **few), True),
        (lambda run, other, named, few: evaluate_workdir(other, transfer_to=(str(run),), custom_objects=named, **few), False),
        (lambda run, other, named, few: export_run(run, export_classifier=True, custom_objects=named), False),
        (lambda run, other, named, few: train_advgan(run, ["3"], epochs=1, custom_objects=named), True),
    ],
    ids=["evaluated", "compared", "shown images", "exported", "advgan"],
)  # fmt: skip
def test_python_named_by_a_folder_runs_only_if_the_user_names_it_too(use, slow, foreign, finished, tmp_path):
    folder, _, code = foreign

    def attempt(*named):
        use(folder, str(finished[0]), named, dict(num_examples=5, output=str(tmp_path / "out")))

    other = tmp_path / "other.py"
    other.write_text("")
    for named, word in (((), str(code)), ((str(other),), str(code)), (("no/such.py",), "no/such")):
        with pytest.raises(InputError, match=word) as error:
            attempt(*named)
        assert error.value.setting == "custom_objects"
    assert not (folder / "ran").exists()
    if not slow:
        attempt(str(other), str(code.parent / ".." / "run" / code.name))
        assert (folder / "ran").exists()


@pytest.mark.parametrize("changed", ["class_names", "classifier", "custom_objects"])
def test_own_files_that_changed_since_are_seen(changed, foreign, tmp_path):
    folder, own, code = foreign
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"digit {k}" for k in range(10)))
    change_config(folder, class_names=str(names))
    config, files = config_of(Workdir(folder)), {"class_names": names, "classifier": own, "custom_objects": code}
    change_config(folder, digests=digests_of(config, files.keys()))

    def evaluate():
        evaluate_workdir(folder, num_examples=5, custom_objects=[str(code)])

    evaluate()
    (folder / "ran").unlink()
    files[changed].write_bytes(files[changed].read_bytes() + b"\n")
    for attempt in (
        evaluate,
        lambda: export_run(folder, export_classifier=True, custom_objects=[str(code)]),
        lambda: train_and_export(config, folder),
    ):
        if changed == "custom_objects":  # the last attempt is of a user who gave the file as a setting
            assert not (folder / "ran").exists()
        with pytest.raises(InputError, match="changed since") as error:
            attempt()
        assert error.value.setting == changed
    assert [entry.name for entry in (folder / "generator").iterdir()] == ["1"]
