"""Who may use the folder of a run, and which files in it are the run's own."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from aigan_tf import files, workdir
from aigan_tf.config import FORMAT, Config
from aigan_tf.errors import InputError
from aigan_tf.workdir import Workdir

SETTINGS = {"dataset": "digits", "epsilon": 0.3, "seed": 0}


@pytest.fixture
def folder(tmp_path):
    return Workdir(tmp_path)


def save_config(folder, **changes):
    files.write_json(folder.config, {"format": FORMAT, **SETTINGS, **changes})


def test_new_folder_is_claimed_with_config_json_and_the_same_settings_continue(tmp_path):
    folder = Workdir(tmp_path / "deep" / "run")
    assert not os.listdir(tmp_path)
    assert folder.open(SETTINGS, {}) is False
    before = folder.config.read_bytes()
    config = json.loads(before)
    assert config | SETTINGS | {"format": FORMAT} == config
    assert set(config) == {"format", *SETTINGS, "digests", "versions", "commit"}
    assert config["versions"]["tensorflow"].startswith("2.")
    assert os.listdir(folder.path) == ["config.json"]
    folder.classifier.write_text("precious")
    assert Workdir(folder.path).open(SETTINGS, {}) is True
    assert (folder.config.read_bytes(), folder.classifier.read_text()) == (before, "precious")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [("epsilon", 8 / 255, "8/255"), ("new_setting", 1, "null"), ("seed", False, "false")],
)
def test_other_settings_are_refused_and_nothing_is_overwritten(name, value, shown, folder):
    folder.open(SETTINGS, {})
    before = folder.config.read_bytes()
    with pytest.raises(InputError, match=name) as error:
        folder.open({**SETTINGS, name: value}, {})
    assert error.value.setting == "workdir"
    assert shown in error.value.problem
    assert folder.config.read_bytes() == before
    assert os.listdir(folder.path) == ["config.json"]


def test_all_settings_that_differ_are_named_at_once(folder):
    folder.open(SETTINGS, {})
    with pytest.raises(InputError) as error:
        folder.check({"dataset": "mnist", "epsilon": 8 / 255, "seed": 0})
    for words in ("dataset", "digits", "mnist", "epsilon", "0.3", "8/255"):
        assert words in error.value.problem
    assert "seed" not in error.value.problem


def test_what_the_images_decided_need_not_be_given_again(folder):
    given = Config(dataset="images", classifier="mine.keras")
    folder.open(dataclasses.asdict(given.fitted((160, 160, 3), 100)), {})
    assert folder.check(dataclasses.asdict(given))
    assert folder.check(dataclasses.asdict(dataclasses.replace(given, batch_size=16)))
    with pytest.raises(InputError, match="batch_size=16"):
        folder.check(dataclasses.asdict(dataclasses.replace(given, batch_size=32)))


def test_more_epochs_are_recorded_and_the_finished_weights_are_kept(folder):
    before, after = (dataclasses.asdict(Config(stage1_epochs=1, stage2_epochs=epochs)) for epochs in (2, 5))
    folder.open(before, {})
    files.write_bytes(folder.weights, b"weights")
    folder.seal(folder.weights, folder.weights)
    saved = folder.config.read_bytes()
    with pytest.raises(InputError, match="checkpoints") as error:
        folder.open(after, {}, extend=True)
    assert error.value.setting == "stage2_epochs"
    files.write_bytes(folder.checkpoints / "aigan" / "ckpt-9.index", b"")
    with pytest.raises(InputError, match="stage2_epochs"):  # not without being asked
        folder.open(after, {})
    assert folder.config.read_bytes() == saved
    assert folder.open(after, {}, extend=True) is True
    assert (workdir.config_of(folder).epochs, folder.restarts()) == (6, [3])
    kept = folder.path / "generator_3_epochs.weights.h5"
    assert (kept.read_bytes(), folder.weights.exists()) == (b"weights", False)
    kept.write_bytes(b"weighty")
    with pytest.raises(InputError, match="digest"):
        folder.verify(kept)
    assert folder.open(after, {}) is True
    with pytest.raises(InputError, match="stage2_epochs"):  # no fewer
        folder.open(before, {}, extend=True)
    assert folder.open({**after, "stage2_epochs": 6}, {}, extend=True) is True
    assert folder.restarts() == [3, 6]


@pytest.mark.parametrize("extensions", [1, ["x"], [{"after_epochs": 2}, {"after_epochs": 2}], [{"after_epochs": 40}]])
def test_damaged_extensions_are_refused(extensions, folder):
    save_config(folder, extensions=extensions)  # of 40 epochs
    with pytest.raises(InputError, match=r"config\.json"):
        folder.restarts()


def test_folder_of_tfds_is_remembered(folder):
    assert folder.data_dir() is None
    folder.open(SETTINGS, {}, data_dir="here")
    folder.open(SETTINGS, {})
    assert folder.data_dir() == "here"
    folder.open(SETTINGS, {}, data_dir="there")
    assert folder.data_dir() == "there"
    save_config(folder, data_dir=3)
    with pytest.raises(InputError, match="data_dir"):
        folder.data_dir()


def test_second_run_is_kept_out_until_the_first_dies(tmp_path):
    code = (
        "import sys; from aigan_tf.workdir import Workdir\n"
        "with Workdir(sys.argv[1]).locked(): print('in', flush=True); sys.stdin.read()"
    )
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], **pipes)
    assert process.stdout.readline() == "in\n"
    assert Workdir(tmp_path).is_locked()
    with pytest.raises(InputError, match="in use") as error, Workdir(tmp_path).locked():
        pass
    assert error.value.setting == "workdir"
    process.kill()
    process.communicate()
    assert not Workdir(tmp_path).is_locked()
    for continues in (False, True):  # the lock alone is not a run
        with Workdir(tmp_path).locked():
            assert Workdir(tmp_path).open(SETTINGS, {}) is continues


def test_unfinished_files_of_a_killed_run_are_removed_and_nothing_else(tmp_path):
    left = (
        ".generator.weights.h5.abcd1234/generator.weights.h5", "samples/.stage1.png.abcd1234/stage1.png",
        "generator/.1.abcd1234/1/saved_model.pb", "advgan/3/.config.json.abcd1234/config.json",
        "ensemble/c/.classifier.keras.abcd1234/classifier.keras", "surrogate/.answers.npz.abcd1234/answers.npz",
        "surrogate/checkpoints/classifier/ckpt-2_temp/part", "checkpoints/aigan/ckpt-2_temp/part", "advgan/3/checkpoints/aigan/ckpt-2_temp/part",
    )  # fmt: skip
    kept = (
        "generator.weights.h5", "generator/1/saved_model.pb", ".notes", ".git/.index.abcd1234/index",
        "notes/.a.txt.abcd1234/a.txt", "evaluation/.report.json.abcd1234/report.json", ".images.abcd1234/images/1.png",
        "checkpoints/aigan/ckpt-1.index",
        # of runs with a lock of their own, which may be writing it
        "transfer/resnet20/.classifier.keras.abcd1234/classifier.keras", "transfer/a/checkpoints/classifier/ckpt-1_temp/part",
    )  # fmt: skip
    for name in (*left, *kept):
        files.write_bytes(tmp_path / name, b"")
    with Workdir(tmp_path).locked():
        assert not any((tmp_path / name).exists() for name in left)
        assert not [*tmp_path.glob(".generator*"), *tmp_path.glob("generator/.1*")]
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {*kept, ".lock"}


@pytest.mark.parametrize("name", ["thesis.tex", ".config.json.abcd1234", ".gitignore"])
def test_folder_that_is_not_a_run_is_refused(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        Workdir(tmp_path).open(SETTINGS, {})
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_file_in_the_place_of_a_folder_is_refused_before_training(folder, tmp_path):
    folder.open(SETTINGS, {})
    files.write_bytes(tmp_path / "checkpoints" / "aigan", b"mine")
    with pytest.raises(InputError, match="aigan is not a folder"):
        folder.check(SETTINGS)
    assert (tmp_path / "checkpoints" / "aigan").read_text() == "mine"


def test_what_cannot_be_a_run_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError) as error:
        Workdir(tmp_path / "\udcff")
    assert error.value.setting == "workdir"
    (tmp_path / "images" / ".git").mkdir(parents=True)
    with pytest.raises(InputError, match="no files"):  # the digest of nothing fits nothing
        workdir.digest_of(tmp_path / "images")


@pytest.mark.parametrize("text", ["", "[1, 2]", "\xff\xfe", '{"format": 99}'])
def test_damaged_config_is_refused_and_kept(text, folder):
    folder.config.write_bytes(text.encode("latin-1"))
    for read in (folder.read_config, lambda: folder.open(SETTINGS, {}), lambda: workdir.config_of(folder)):
        with pytest.raises(InputError, match=r"config\.json") as error:
            read()
        assert str(error.value).isprintable()
    assert folder.config.read_bytes() == text.encode("latin-1")


def test_settings_of_a_run_are_read_from_its_folder(folder):
    with pytest.raises(InputError, match=r"no config\.json"):
        workdir.config_of(folder)
    config = Config(epsilon=0.25, image_size=(8, 9), defense="pgd")
    saved = dataclasses.asdict(config)
    folder.open(saved, {})
    assert workdir.config_of(folder) == config
    for change in ({"epsilon": 8}, {"input_range": [0, 255]}):
        save_config(folder, **(saved | change))
        with pytest.raises(InputError, match=r"config\.json") as error:
            workdir.config_of(folder)
        assert error.value.setting in change
    del saved["seed"]
    files.write_json(folder.config, {"format": FORMAT, **saved})
    assert workdir.config_of(folder) == config, "a setting that came later has its default"
    assert folder.open(dataclasses.asdict(config), {}) is True


def test_changed_files_of_a_setting_are_refused(tmp_path):
    data, folder = tmp_path / "data", Workdir(tmp_path / "run")
    image = data / "train" / "a.png"
    files.write_bytes(image, b"one")
    digests = {"dataset": workdir.digest_of(data)}
    folder.open(SETTINGS, digests)
    for name in (".DS_Store", "Thumbs.db", "train/desktop.ini"):  # left by desktops
        files.write_bytes(data / name, b"")
    assert folder.open(SETTINGS, {"dataset": workdir.digest_of(data)}) is True
    assert workdir.digest_of(image) != workdir.digest_of(image.parent)
    for change in (lambda: image.rename(image.with_name("b.png")), lambda: image.write_bytes(b"two")):
        change()
        with pytest.raises(InputError, match="changed") as error:
            folder.open(SETTINGS, {"dataset": workdir.digest_of(data)})
        assert error.value.setting == "dataset"
        image.with_name("b.png").unlink(missing_ok=True)


def test_sealed_files_are_verified(folder):
    version = folder.exports / "1"
    files.write_bytes(version / "saved_model.pb", b"graph")
    files.write_bytes(folder.weights, b"weights")
    folder.verify(version)  # nothing is recorded
    for path in (version, folder.weights):
        folder.seal(path, path)
    (version / "note.txt").write_text("what others add does not matter")
    folder.verify(folder.weights)
    folder.weights.write_bytes(b"weighty")
    folder.verify(version)
    with pytest.raises(InputError, match=r"generator\.weights\.h5 is not what train\.py wrote"):
        folder.verify(folder.weights)
    folder.seal(folder.weights, folder.weights)  # written again
    folder.verify(folder.weights)
    (version / "saved_model.pb").unlink()
    with pytest.raises(InputError, match=r"saved_model\.pb is not what train\.py wrote"):
        folder.verify(version)


@pytest.mark.parametrize("text", ["{", "null", '{"../other/x": ""}', '{"generator/../../x": ""}'])
def test_damaged_digests_are_refused(text, folder):
    files.write_bytes(folder.weights, b"weights")
    folder.digests.write_text(text)
    with pytest.raises(InputError, match=r"digests\.json cannot be read"):
        folder.verify(folder.weights)


def test_training_cost_includes_the_surrogate(folder):
    folder.metrics.write_text("seconds,queries\n1.5,10\n2,30\n")
    files.write_bytes(Workdir(folder.surrogate).classifier_metrics, b"seconds\n4\n")
    assert folder.training_cost(black_box=True) == (7.5, 30)
    assert folder.training_cost(black_box=False) == (3.5, 0)
    folder.metrics.write_text("seconds\nnan\n")
    with pytest.raises(InputError, match=r"metrics\.csv"):
        folder.training_cost(black_box=True)
