"""A whole run on digits: what it leaves behind, and that an interrupted run ends as an uninterrupted one."""

import csv
import dataclasses
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile

import foolbox
import h5py
import keras
import kill_and_resume
import numpy as np
import pytest
import tensorflow as tf

from aigan_tf import build as building
from aigan_tf import workdir
from aigan_tf.classifiers import accuracy, architectures, black_box
from aigan_tf.classifiers import training as classifier_training
from aigan_tf.classifiers.black_box import BlackBox
from aigan_tf.config import make_config
from aigan_tf.data import datasets
from aigan_tf.data.batches import evaluation_batches
from aigan_tf.engine import callbacks, checkpoints
from aigan_tf.errors import InputError, Terminated
from aigan_tf.evaluation import compare, defences, foolbox_attacks
from aigan_tf.method import stages
from aigan_tf.method.networks import Discriminator, Generator
from aigan_tf.training import advgan, generator
from aigan_tf.training import run as training
from aigan_tf.workdir import Workdir

TINY = dict(
    dataset="digits",
    classifier_epochs=2,
    steps_per_epoch=3,
    stage1_epochs=2,
    stage2_epochs=2,
    switch_success=1.0,
    batch_size=32,
    attack_steps=2,
    generator_width=4,
    generator_blocks=1,
)


class Stop(Exception):
    """Ends a run where a test needs no more of it."""


def variables(folder):
    """Everything in the newest checkpoint of the generator's training: name to array."""
    path = max((folder / "checkpoints" / "aigan").glob("*.index"), key=lambda path: int(path.stem.split("-")[1]))
    reader = tf.train.load_checkpoint(str(path.with_suffix("")))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    }


def metrics_rows(folder, *without, name="metrics.csv"):
    with open(folder / name, newline="") as file:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(file)]


def untimed(report):
    return {name: value for name, value in report.items() if name != "milliseconds_per_image"}


def saved_weights(path):
    """Every array of a .weights.h5 file."""
    arrays = []
    with h5py.File(path) as file:
        file.visititems(lambda _, entry: arrays.append(entry[()]) if isinstance(entry, h5py.Dataset) else None)
    return arrays


def assert_same_arrays(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An uninterrupted run: its work folder, its result, and what a kill at some moments would have left."""
    root = tmp_path_factory.mktemp("finished")
    folder = root / "run"
    original = checkpoints.Checkpoint.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        name = f"{'classifier' if self.folder.name == 'classifier' else 'aigan'}{epoch}"
        shutil.copytree(folder, root / f"{name}_unsaved")
        original(self, epoch, logs)
        shutil.copytree(folder, root / f"{name}_saved")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "on_epoch_end", on_epoch_end)
        result = training.train_and_export(make_config(**TINY), folder)
    return folder, result


def test_the_work_folder_holds_the_whole_run(finished):
    folder, _ = finished
    assert {entry.name for entry in folder.iterdir()} - {".lock"} == {
        "config.json",
        "digests.json",
        "classifier.keras",
        "classifier_metrics.csv",
        "checkpoints",
        "generator_stage1.weights.h5",
        "generator.weights.h5",
        "generator",
        "logs",
        "metrics.csv",
        "samples",
        "report.json",
    }
    assert {entry.name for entry in (folder / "samples").iterdir()} == {"stage1.png", "stage2.png"}
    assert {entry.name for entry in (folder / "generator").iterdir()} == {"1"}
    assert (folder / "generator" / "1" / "saved_model.pb").is_file()
    assert {entry.name for entry in (folder / "checkpoints").iterdir()} == {"classifier", "aigan"}
    assert list((folder / "logs").rglob("events.out.tfevents.*"))
    for picture in (folder / "samples").iterdir():
        assert tf.io.decode_png(picture.read_bytes()).shape[-1] in (3, 4)


def test_config_json_records_settings_versions_and_commit(finished):
    folder, _ = finished
    config = json.loads((folder / "config.json").read_text())
    assert config["epsilon"] == 0.3
    assert isinstance(config["epsilon"], float)
    expected = dataclasses.asdict(make_config(**TINY))
    assert {name: config[name] for name in expected} == expected
    assert set(config) == {*expected, "digests", "versions", "commit"}
    assert config["versions"]["tensorflow"] == tf.__version__
    assert config["versions"]["keras"] == keras.__version__
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=training.__file__[:-11])
    if head.returncode == 0:
        assert len(config["commit"]) == len(head.stdout.strip())


def test_metrics_has_one_row_an_epoch_with_its_stage(finished):
    folder, _ = finished
    rows = metrics_rows(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["stage"] for row in rows] == ["1", "1", "2", "2"]
    for row in rows:
        for name in (
            "generator_loss",
            "adversarial_loss",
            "gan_loss",
            "hinge_loss",
            "discriminator_loss",
            "targeted_success_rate",
            "perturbation_l2",
            "perturbation_linf",
            "val_targeted_success_rate",
            "val_perturbation_l2",
            "val_perturbation_linf",
        ):
            assert np.isfinite(float(row[name])), name
        assert 0 < float(row["perturbation_linf"]) <= 0.3 + 1e-6
        assert 0 < float(row["val_perturbation_linf"]) <= 0.3 + 1e-6


def test_the_classifiers_history_has_one_row_an_epoch(finished):
    folder, _ = finished
    rows = metrics_rows(folder, name="classifier_metrics.csv")
    assert [row["epoch"] for row in rows] == [str(epoch) for epoch in range(1, TINY["classifier_epochs"] + 1)]
    for row in rows:
        assert "stage" not in row
        assert float(row["seconds"]) > 0
        assert 0 < float(row["val_accuracy"]) <= 1


def test_report_json_is_what_was_measured(finished):
    folder, result = finished
    report = json.loads((folder / "report.json").read_text())
    assert {name: report[name] for name in result} == result
    assert report["split"] == "test"
    assert report["num_examples"] == 300
    assert report["num_attacks"] == 9 * report["num_correct"]
    assert report["epsilon"] == 0.3
    assert report["seed"] == 0
    assert report["device"]


def test_the_two_weight_files_are_of_the_ends_of_the_stages(finished):
    folder, _ = finished
    after1, after2 = (saved_weights(folder / f"generator{stage}.weights.h5") for stage in ("_stage1", ""))
    assert any((a != b).any() for a, b in zip(after1, after2, strict=True))


def test_the_trained_classifier_is_frozen_while_the_generator_trains(finished):
    folder, _ = finished
    before = keras.models.load_model(folder.parent / "aigan0_unsaved" / "classifier.keras", compile=False)
    after = keras.models.load_model(folder / "classifier.keras", compile=False)
    assert_same_arrays(before.get_weights(), after.get_weights())


def test_a_second_call_continues_and_retrains_nothing(finished, monkeypatch, capsys):
    folder, result = finished
    files = ("generator.weights.h5", "generator_stage1.weights.h5", "classifier.keras", "metrics.csv", "config.json")
    before = {name: (folder / name).read_bytes() for name in files}
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    again = training.train_and_export(make_config(**TINY), folder)
    assert "Continuing" in capsys.readouterr().out
    assert {name: (folder / name).read_bytes() for name in files} == before
    assert untimed(again) == untimed(result)
    assert [entry.name for entry in (folder / "generator").iterdir()] == ["1"]


def stop_before_evaluation(monkeypatch):
    def stop(*args, **kwargs):
        raise Stop

    monkeypatch.setattr(training, "measure_export", stop)


def assert_same_end(run, uninterrupted):
    """Weights, both optimizers, counters, histories and samples of two runs are equal in every bit."""
    assert_same_weights(run, uninterrupted)
    assert metrics_rows(run, "seconds") == metrics_rows(uninterrupted, "seconds")
    assert kill_and_resume.events(run / "logs") == kill_and_resume.events(uninterrupted / "logs")
    for name in ("stage1.png", "stage2.png"):
        assert (run / "samples" / name).read_bytes() == (uninterrupted / "samples" / name).read_bytes()


def assert_same_weights(run, uninterrupted):
    """Weights, both optimizers and counters of two runs are equal in every bit."""
    for name in ("generator_stage1.weights.h5", "generator.weights.h5"):
        assert_same_arrays(saved_weights(run / name), saved_weights(uninterrupted / name))
    expected, actual = variables(uninterrupted), variables(run)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@pytest.mark.parametrize(
    "moment",
    [
        "aigan1_unsaved",  # stage 1 has written all it writes, but no checkpoint knows
        "aigan1_saved",  # when stage 2 just began
        "aigan3_saved",  # all epochs are done, the weights are not written
    ],
)
def test_a_killed_run_ends_bit_for_bit_as_an_uninterrupted_one(finished, moment, tmp_path, monkeypatch):
    folder, _ = finished
    run = tmp_path / "run"
    shutil.copytree(folder.parent / moment, run)
    stop_before_evaluation(monkeypatch)
    with pytest.raises(Stop):
        training.train_and_export(make_config(**TINY), run)
    assert_same_end(run, folder)


def test_the_samples_are_there_before_the_weights_that_end_training(finished, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished[0].parent / "aigan3_saved", run)

    def stop(*arguments):
        raise Stop

    monkeypatch.setattr(training, "save_generator", stop)
    with pytest.raises(Stop):
        training.train_and_export(make_config(**TINY), run)
    assert not (run / "generator.weights.h5").exists()
    assert (run / "samples" / "stage2.png").exists()
    assert "samples step 12" in kill_and_resume.events(run / "logs")


def test_a_file_is_sealed_before_it_has_its_name(make_aigan, tmp_path, monkeypatch):
    folder, sealed = Workdir(tmp_path), []
    aigan = make_aigan()
    aigan.generator(tf.zeros((1, 8, 8, 1)), tf.zeros((1,), tf.int32))
    original = os.replace

    def replace(temporary, path):
        if path == folder.weights:
            sealed.extend(json.loads(folder.digests.read_text()))
        original(temporary, path)

    monkeypatch.setattr(os, "replace", replace)
    generator.save_generator(aigan, folder.weights)
    assert sealed == ["generator.weights.h5"]
    folder.verify(folder.weights)


def test_the_history_for_tensorboard_is_that_of_metrics_csv(finished):
    folder, _ = finished
    shown = {}
    for place, values in kill_and_resume.events(folder / "logs").items():
        part, _, step = place.partition(" step ")
        shown[part, step] = values[::2]
    assert shown.keys() == {
        *((part, str(epoch)) for part in ("train", "validation") for epoch in range(1, 5)), ("samples", "6"), ("samples", "12")
    }  # fmt: skip
    columns = metrics_rows(folder)[0].keys() - {"epoch", "seconds"}
    for part, prefix in (("train", ""), ("validation", "val_")):
        names = {f"{prefix}{tag.removeprefix('epoch_')}" for tag in shown[part, "4"]}
        assert names == {name for name in columns if name.startswith("val_") == bool(prefix)}
        assert len(shown[part, "4"]) == len(names)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda lines: lines[:3],
            "lacks epoch 3, or its numbers, and the checkpoint is of epoch 4; expected all up to it",
        ),
        (lambda lines: [], "lacks epoch 1"),
        (lambda lines: [*lines[:2], *lines[3:]], "lacks epoch 2"),
        (lambda lines: [*lines[:3], lines[3] + ",5", lines[4]], "row 3 has more cells than the header; expected"),
        (lambda lines: [*lines[:4], "4,2,soon" + lines[4][lines[4].index(",", 4) :]], "lacks epoch 4, or its numbers"),
    ],
)
def test_a_history_that_does_not_reach_the_checkpoint_is_refused(damage, words, finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0].parent / "aigan3_saved", run)
    path = run / "metrics.csv"
    path.write_text("".join(f"{line}\n" for line in damage(path.read_text().splitlines())))
    before = path.read_bytes()
    with pytest.raises(InputError, match=rf"metrics\.csv.*{words}.*: restore") as caught:
        training.train_and_export(make_config(**TINY), run)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(finished, tmp_path, monkeypatch):
    folder, _ = finished
    run = tmp_path / "run"
    shutil.copytree(folder.parent / "aigan0_unsaved", run)  # the classifier is done, nothing of the generator is saved

    def interrupt(self, batch, logs=None):
        if self.model.generator_optimizer.iterations == 5:  # within the second epoch, the last of stage 1
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.MetricsHistory, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            training.train_and_export(make_config(**TINY), run)
    assert metrics_rows(run, "seconds") == metrics_rows(folder, "seconds")[:1]
    for name in ("generator_stage1.weights.h5", "generator.weights.h5", "generator", "report.json", "samples"):
        assert not (run / name).exists()
    assert not [path for path in run.rglob("*") if path.name.startswith(".") and path.name != ".lock"]

    stop_before_evaluation(monkeypatch)
    with pytest.raises(Stop):
        training.train_and_export(make_config(**TINY), run)
    assert_same_end(run, folder)


def test_a_killed_training_of_the_classifier_ends_bit_for_bit_as_an_uninterrupted_one(finished, tmp_path, monkeypatch):
    folder, _ = finished
    run = tmp_path / "run"
    shutil.copytree(folder.parent / "classifier0_saved", run)

    def stop(*args, **kwargs):
        raise Stop

    monkeypatch.setattr(training, "train_generator", stop)
    with pytest.raises(Stop):
        training.train_and_export(make_config(**TINY), run)
    resumed, whole = (keras.models.load_model(path / "classifier.keras", compile=False) for path in (run, folder))
    assert_same_arrays(resumed.get_weights(), whole.get_weights())


def test_a_checkpoint_holds_every_variable_of_every_network(tmp_path):
    """Batch statistics and dropout seeds too, which no optimizer knows."""

    def networks():
        return {
            "generator": Generator(10, 1, width=4, num_blocks=1),
            "discriminator": Discriminator(1),
            "resnet": architectures.build("resnet20", (8, 8, 1), 10),
            "dropout": architectures.build("small", (8, 8, 1), 10),
        }

    saved = networks()
    for model in saved.values():
        for variable in model.variables:
            variable.assign(np.random.default_rng(0).integers(1, 100, variable.shape).astype(variable.dtype))
    checkpoint = checkpoints.Checkpoint(tmp_path, **saved)
    checkpoint.steps_done = 7
    checkpoint.on_epoch_end(6)
    restored = networks()
    assert checkpoints.Checkpoint(tmp_path, **restored).restore() == 7
    for name, model in restored.items():
        for before, after in zip(saved[name].variables, model.variables, strict=True):
            np.testing.assert_array_equal(np.asarray(after), np.asarray(before), err_msg=f"{name} {after.path}")


def short_run(finished, folder, monkeypatch, **settings):
    """Trains against the finished run's classifier and stops before the evaluation."""
    stop_before_evaluation(monkeypatch)
    config = make_config(
        **{
            **TINY,
            "classifier": str(finished[0] / "classifier.keras"),
            "classifier_epochs": 0,
            "steps_per_epoch": 1,
            **settings,
        }
    )
    with pytest.raises(Stop):
        training.train_and_export(config, folder)


def test_without_stage1_the_attacker_never_runs(finished, tmp_path, monkeypatch):
    run = tmp_path / "run"
    calls = []
    original = building.pgd_attack

    def attack(classifier, images, classes, **kwargs):
        tf.py_function(lambda: calls.append(1), [], [])
        return original(classifier, images, classes, **kwargs)

    monkeypatch.setattr(building, "pgd_attack", attack)
    short_run(finished, run, monkeypatch, stage1_epochs=0, stage2_epochs=1)
    assert [row["stage"] for row in metrics_rows(run)] == ["2"]
    assert not calls
    assert not (run / "generator_stage1.weights.h5").exists()
    assert (run / "generator.weights.h5").exists()
    assert [entry.name for entry in (run / "samples").iterdir()] == ["stage2.png"]


def test_without_stage2_the_result_is_that_of_stage1(finished, tmp_path, monkeypatch):
    run = tmp_path / "run"
    short_run(finished, run, monkeypatch, stage1_epochs=1, stage2_epochs=0)
    assert [row["stage"] for row in metrics_rows(run)] == ["1"]
    assert [entry.name for entry in (run / "samples").iterdir()] == ["stage1.png"]
    assert_same_arrays(saved_weights(run / "generator_stage1.weights.h5"), saved_weights(run / "generator.weights.h5"))


def planned(monkeypatch, tmp_path, **settings):
    """What a run would hand to `fit`: the model with its first weights, and the arguments."""
    seen = []
    monkeypatch.setattr(training.AIGAN, "fit", lambda self, *args, **kwargs: seen.append((self, kwargs)))
    config = make_config(**{**TINY, **settings})
    dataset = datasets.load_dataset(config, None)
    keras.utils.set_random_seed(config.seed)
    generator.train_generator(
        config, dataset, lambda images: images[:, 0, 0, :1] * tf.ones(10), Workdir(tempfile.mkdtemp(dir=tmp_path))
    )
    return seen[0]


def test_the_seed_decides_the_first_weights_and_the_batches(tmp_path, monkeypatch):
    runs = []
    for seed in (0, 0, 1):
        with monkeypatch.context() as patch:
            seen = []
            patch.setattr(training, "training_batches", lambda *args, seen=seen, **kwargs: seen.append(args))
            aigan, _ = planned(patch, tmp_path, seed=seed)
            assert aigan.seed == seed
            runs.append((aigan.generator.get_weights() + aigan.discriminator.get_weights(), seen[0][2]))
    assert_same_arrays(runs[0][0], runs[1][0])
    assert any((a != b).any() for a, b in zip(runs[0][0], runs[2][0], strict=True))
    assert [batch_seed for _, batch_seed in runs] == [0, 0, 1]


@pytest.mark.parametrize(
    ("settings", "success"),
    [
        (dict(switch="auto", switch_success=0.7), 0.7),
        (dict(switch="fixed", switch_success=0.7), None),
        (dict(switch="auto", switch_success=0.7, stage2_epochs=0), None),  # there is nothing to switch to
    ],
)
def test_success_ends_stage1_only_where_asked(settings, success, tmp_path, monkeypatch):
    _, arguments = planned(monkeypatch, tmp_path, **settings)
    (switch,) = (c for c in arguments["callbacks"] if isinstance(c, stages.StageSwitch))
    assert switch.success == success
    assert switch.stage1_epochs == 2


def test_an_untargeted_run_switches_by_itself_and_serves_label(finished, tmp_path):
    run = tmp_path / "run"
    config = make_config(
        **{
            **TINY,
            "classifier": str(finished[0] / "classifier.keras"),
            "classifier_epochs": 0,
            "attack": "untargeted",
            "epsilon": 1.0,
            "stage1_epochs": 2,
            "stage2_epochs": 1,
            "switch_success": 0.05,
            "steps_per_epoch": 4,
            "learning_rate": 0.05,
            "hinge_weight": 0.0,
        }
    )
    result = training.train_and_export(config, run)
    rows = metrics_rows(run)
    assert float(rows[0]["val_untargeted_success_rate"]) >= 0.05
    assert [row["stage"] for row in rows] == ["1", "2", "2"]  # the epochs stage 1 saved go to stage 2
    assert result["attack"] == "untargeted"
    assert result["num_attacks"] == result["num_correct"]
    assert "worst_target" not in result
    loaded = tf.saved_model.load(str(run / "generator" / "1"))
    served = loaded.signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == {"images", "label"}
    assert served(images=tf.zeros((2, 8, 8, 1)), label=tf.constant([0, 9]))["adversarial_images"].shape == (2, 8, 8, 1)


def test_mixed_precision_trains_in_bfloat16_and_measures_in_float32(finished, tmp_path):
    run = tmp_path / "run"
    settings = {**TINY, "classifier": str(finished[0] / "classifier.keras"), "classifier_epochs": 0}
    config = make_config(**settings, mixed_precision=True)
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(("train", option()))

        def on_test_batch_end(self, batch, logs=None):
            seen.append(("test", option()))

    def option():
        return tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16", False)

    with training.open_run(config, run, None) as (folder, dataset, classifier, devices):
        aigan = building.build_aigan(config, dataset, classifier, 12)
        aigan.stage = 2
        generator.fit(aigan, config, dataset, folder, 2, devices, [Watch()])
    assert set(seen) == {("train", True), ("test", False)}
    assert not option()  # the rest of the process is not touched

    rows = metrics_rows(run)
    # The arithmetic of the perturbation and the sums of the metrics stay in float32.
    assert all(0 < float(row["perturbation_linf"]) <= config.epsilon * (1 + 1e-5) for row in rows)
    for row in rows:
        steps = float(row["targeted_success_rate"]) * config.batch_size * config.steps_per_epoch
        assert steps == pytest.approx(round(steps), abs=1e-3)
    measured = aigan.evaluate(evaluation_batches(dataset.validation, 500), return_dict=True, verbose=0)
    for name in ("generator_loss", "perturbation_l2", "targeted_success_rate"):
        assert float(rows[-1][f"val_{name}"]) == pytest.approx(measured[name], rel=1e-5)


class FakeModel:
    """What the switch reads and sets of a model."""

    stage = 1

    class success_rate:
        name = "success"


@pytest.mark.parametrize(
    ("stage1_epochs", "success", "measured", "stages"),
    [
        (3, 0.5, [0.1, 0.5, 0.2, 0.2, 0.2], [1, 1, 2, 2, 2]),  # reached exactly
        (3, 0.5, [0.1, 0.49, 0.2, 0.9, 0.2], [1, 1, 1, 2, 2]),  # never reached in time
        (3, None, [0.9, 0.9, 0.9, 0.9, 0.9], [1, 1, 1, 2, 2]),  # fixed
        (0, 0.5, [0.1, 0.1], [2, 2]),
        (2, None, [0.1, 0.1], [1, 1]),  # there is no stage 2
    ],
)
def test_stage1_ends_at_the_success_or_after_its_epochs(stage1_epochs, success, measured, stages):
    model, actual, ended = FakeModel(), [], []
    switch = stages.StageSwitch(stage1_epochs, len(measured), success, lambda: ended.append(model.stage))
    switch.set_model(model)
    switch.on_train_begin()
    for epoch, value in enumerate(measured):
        actual.append(model.stage)
        switch.on_epoch_end(epoch, {"val_success": value})
    assert actual == stages
    assert ended == ([1] if 1 in stages else [])  # announced once, while the stage is still the first


@pytest.mark.parametrize(
    ("settings", "received"),
    [
        (dict(classifier="A"), "8 x 8"),
        (dict(classifier="no/such/model.keras"), "no/such/model.keras"),
        (dict(batch_size=5000), "5000"),
        (dict(dataset="no/such/folder"), "no/such/folder"),
        (dict(class_names="no/such/names.txt"), "no/such/names.txt"),
        (dict(input_range="0,255"), "--input_range=0,255 has no effect"),
        (dict(custom_objects="layers.py"), "--custom_objects=layers.py has no effect"),
        (dict(classifier="no/such/model.keras", classifier_epochs=3), "--classifier_epochs=3 has no effect"),
    ],
)
def test_a_refused_run_creates_no_work_folder(settings, received, tmp_path):
    with pytest.raises(InputError, match=received):
        training.train_and_export(make_config(**{**TINY, **settings}), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_classifier_that_is_never_right_is_refused_before_training(tmp_path, monkeypatch):
    images = keras.Input((8, 8, 1))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(images))
    model = keras.Model(images, logits)
    model.save(tmp_path / "wrong.keras")
    monkeypatch.setattr(training, "train_generator", lambda *args: pytest.fail("trained against it"))
    monkeypatch.setattr(accuracy, "accuracy", lambda *args, **kwargs: 0.0)
    with pytest.raises(InputError):
        training.train_and_export(
            make_config(**{**TINY, "classifier": str(tmp_path / "wrong.keras"), "classifier_epochs": 0}),
            tmp_path / "run",
        )


def test_class_names_are_taken_from_the_file(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"digit {k}" for k in range(10)) + "\n\n")
    dataset = datasets.load_dataset(make_config(class_names=str(names)), None)
    assert dataset.class_names == tuple(f"digit {k}" for k in range(10))
    names.write_text("\ufeff" + "\n".join(dataset.class_names), encoding="utf-8")
    assert datasets.load_dataset(make_config(class_names=str(names)), None).class_names == dataset.class_names
    names.write_text("\n".join(dataset.class_names[:-1]) + "\nni\x1bne")
    with pytest.raises(InputError, match=r"the name 'ni\\x1bne'; expected one that can be printed"):
        datasets.load_dataset(make_config(class_names=str(names)), None)
    names.write_text("zero\none\n")
    with pytest.raises(InputError, match="2 names; expected 10"):
        datasets.load_dataset(make_config(class_names=str(names)), None)
    names.write_text("same\n" * 10)
    with pytest.raises(InputError, match="names a class twice"):
        datasets.load_dataset(make_config(class_names=str(names)), None)


def test_a_run_is_not_continued_with_other_settings(finished):
    folder, _ = finished
    before = (folder / "config.json").read_bytes()
    with pytest.raises(InputError, match="seed=0"):
        training.train_and_export(make_config(**{**TINY, "seed": 1}), folder)
    assert (folder / "config.json").read_bytes() == before


def test_the_learning_rate_falls_over_the_whole_run(tmp_path, monkeypatch):
    config = make_config(**TINY)
    steps = config.epochs * config.steps_per_epoch
    aigan, arguments = planned(monkeypatch, tmp_path)
    assert arguments["epochs"] == 4
    assert arguments["steps_per_epoch"] == 3
    schedule = aigan.generator_optimizer._learning_rate
    assert float(schedule(0)) == pytest.approx(config.learning_rate)
    assert float(schedule(steps)) == pytest.approx(0.0, abs=1e-9)
    assert aigan.hinge_threshold == pytest.approx(0.5 * 0.3 * 8)


# --- AdvGAN beside it


@pytest.mark.long
def test_advgan_is_trained_for_the_classes_asked_for_and_goes_on_where_it_was(finished, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    config = make_config(**TINY)
    advgan.train_advgan(config, folder, target_classes="3, 7", epochs=2)
    assert {entry.name for entry in (folder / "advgan").iterdir()} == {"3", "7"}
    for target in ("3", "7"):
        assert len(metrics_rows(folder / "advgan" / target)) == 2
        assert json.loads((folder / "advgan" / target / "config.json").read_text())["target_class"] == int(target)
    three, seven = (saved_weights(folder / "advgan" / k / "generator.weights.h5") for k in ("3", "7"))
    assert any((a != b).any() for a, b in zip(three, seven, strict=True))
    assert {path: path.read_bytes() for path in before} == before  # the AI-GAN beside it is as it was

    # Interrupted after its first epoch and continued, it ends with the same weights.
    shutil.rmtree(folder / "advgan")

    original = callbacks.MetricsHistory.on_epoch_begin

    def stop(self, epoch, logs=None):
        if epoch == 1:
            raise Stop
        original(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.MetricsHistory, "on_epoch_begin", stop)
        with pytest.raises(Stop):
            advgan.train_advgan(config, folder, target_classes="3", epochs=2)
    advgan.train_advgan(config, folder, target_classes="3", epochs=2)
    for a, b in zip(saved_weights(folder / "advgan" / "3" / "generator.weights.h5"), three, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)  # sums of one embedding's gradient vary in their order
    assert "after step 3 of 6" in capsys.readouterr().out
    with pytest.raises(InputError, match="advgan_epochs=2"):
        advgan.train_advgan(config, folder, target_classes="3", epochs=3)


def test_advgan_of_a_class_that_is_none_is_refused_and_of_no_number_left_out(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    advgan.train_advgan(make_config(**TINY), folder, target_classes="3", epochs=1)
    shutil.copytree(folder / "advgan" / "3", folder / "advgan" / "\u00b2")
    (folder / "generator" / "\u00b2").mkdir()
    names = ("aigan", "advgan")
    result = compare.evaluate_workdir(folder, attacks=names, num_examples=20, output=str(tmp_path / "out"))
    tried = result["attacks"]["advgan"]["success_by_class"]
    assert [name for name, rate in tried.items() if rate is not None] == ["3"]
    shutil.copytree(folder / "advgan" / "3", folder / "advgan" / "99")
    with pytest.raises(InputError, match=r"advgan/99 is of no class; expected one of the 10 of digits.*remove it"):
        compare.evaluate_workdir(folder, attacks=names, num_examples=20, output=str(tmp_path / "out"))


def test_advgan_never_sees_an_image_of_its_target(finished, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        training,
        "fit",
        lambda model, config, dataset, folder, epochs, devices: seen.append((model.target_class, dataset)),
    )
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    advgan.train_advgan(make_config(**TINY), folder)
    assert [target for target, _ in seen] == list(range(10))
    for target, dataset in seen:
        assert target not in dataset.train.labels
        assert target not in dataset.validation.labels
        assert len(np.unique(dataset.train.labels)) == 9
        assert target in dataset.test.labels


@pytest.mark.parametrize(
    ("settings", "arguments", "words"),
    [
        ({}, dict(target_classes="3,10"), ["'10'", "0 to 9"]),
        ({}, dict(target_classes="cat"), ["'cat'", "expected all"]),
        ({}, dict(epochs=0), ["advgan_epochs=0", "1 or more"]),
        ({"attack": "untargeted"}, {}, ["untargeted", "target class"]),
    ],
)
def test_advgan_refuses_what_it_cannot_do_before_it_makes_a_folder(settings, arguments, words, tmp_path):
    with pytest.raises(InputError) as caught:
        advgan.train_advgan(make_config(**{**TINY, **settings}), tmp_path / "run", **arguments)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "run").exists()


def test_classes_are_named_by_number_or_name():
    names = ("cat", "dog", "fish")
    assert advgan.classes_named("all", names) == [0, 1, 2]
    assert advgan.classes_named("2, cat", names) == [2, 0]


# --- exported again


def test_a_finished_run_is_exported_again_with_its_classifier_and_the_first_version_stays(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "digests.json"}
    with pytest.raises(InputError, match="--export_run"):
        training.train_and_export(make_config(**TINY), folder, export_classifier=True)
    assert training.export_run(folder, export_classifier=True) == folder / "generator" / "2"
    assert "generator/2" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in before} == before
    first, second = (tf.saved_model.load(str(folder / "generator" / version)) for version in "12")
    assert set(second.signatures) - set(first.signatures) == {"classify"}
    dataset = datasets.load_dataset(make_config(**TINY), None)
    inputs = {
        "images": tf.constant(dataset.test.take(slice(0, 20)).as_float()),
        "target_class": tf.constant((dataset.test.labels[:20] + 1) % 10, tf.int32),
    }
    outputs = second.signatures["classify"](**inputs)
    made = first.signatures["serving_default"](**inputs)["adversarial_images"]
    np.testing.assert_array_equal(outputs["adversarial_images"], made)
    model = keras.models.load_model(folder / "classifier.keras", compile=False)
    np.testing.assert_allclose(outputs["logits"], model(made, training=False), atol=1e-4)
    preset = json.loads((folder / "generator" / "2" / "assets" / "preset.json").read_text())
    assert (preset["dataset"], preset["epsilon"], preset["classifier"]) == ("digits", 0.3, "small")
    assert (preset["attack"], preset["image_shape"]) == ("targeted", [8, 8, 1])


def test_a_run_with_its_classifier_that_ended_before_its_report_goes_on(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    shutil.rmtree(folder / "generator")
    (folder / "report.json").unlink()
    with monkeypatch.context() as patch:
        stop_before_evaluation(patch)
        with pytest.raises(Stop):
            training.train_and_export(make_config(**TINY), folder, export_classifier=True)
    result = training.train_and_export(make_config(**TINY), folder, export_classifier=True)
    assert untimed(result) == untimed(finished[1])
    assert (folder / "report.json").exists()
    assert [entry.name for entry in (folder / "generator").iterdir()] == ["1"]


def test_a_classifier_of_ones_own_is_exported_along(finished, tmp_path):
    model = keras.models.load_model(finished[0] / "classifier.keras", compile=False)
    model.export(tmp_path / "served", verbose=False)
    settings = {**TINY, "classifier": str(tmp_path / "served"), "classifier_epochs": 0, "stage1_epochs": 0}
    training.train_and_export(make_config(**settings), tmp_path / "run", export_classifier=True)
    shutil.rmtree(tmp_path / "served")  # what is exported needs it no longer
    loaded = tf.saved_model.load(str(tmp_path / "run" / "generator" / "1"))
    images, classes = tf.fill((2, 8, 8, 1), 0.5), tf.constant([1, 2])
    outputs = loaded.signatures["classify"](images=images, target_class=classes)
    np.testing.assert_allclose(outputs["logits"], model(outputs["adversarial_images"]), atol=1e-4)


def test_an_unfinished_run_is_not_exported_again(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    (folder / "generator.weights.h5").unlink()
    with pytest.raises(InputError, match=r"generator\.weights\.h5 is not there; expected .* a finished run"):
        training.export_run(folder)


# --- a classifier that only answers


@pytest.fixture
def short_recipe(monkeypatch):
    """A local copy is trained by its architecture's recipe, whose forty epochs take too long here."""
    recipe = dataclasses.replace(architectures.ARCHITECTURES["small"].recipe, epochs=1)
    small = dataclasses.replace(architectures.ARCHITECTURES["small"], recipe=recipe)
    monkeypatch.setitem(architectures.ARCHITECTURES, "small", small)


@pytest.mark.long
def test_a_black_box_is_attacked_through_a_copy_and_its_queries_are_counted(
    tmp_path, monkeypatch, short_recipe, capsys
):
    settings = {**TINY, "black_box": "small", "queries_per_epoch": 40, "classifier_epochs": 1}
    config, whole, cut = make_config(**settings), tmp_path / "whole", tmp_path / "cut"
    result = training.train_and_export(config, whole)
    dataset = datasets.load_dataset(config, None)
    assert result["queries"] == len(dataset.train) + len(dataset.validation) + 4 * 40
    assert [row["queries"] for row in metrics_rows(whole)][-1] == str(result["queries"])
    assert "asked about" in capsys.readouterr().out
    assert json.loads((whole / "report.json").read_text())["queries"] == result["queries"]
    # What is measured is the classifier itself, not the copy.
    copy, classifier = (keras.models.load_model(path / "classifier.keras") for path in (whole / "surrogate", whole))
    assert any((a != b).any() for a, b in zip(copy.get_weights(), classifier.get_weights(), strict=True))
    again = compare.evaluate_workdir(whole, output=str(tmp_path / "out"))
    assert again["attacks"]["aigan"]["success_rate"] == result["success_rate"]

    # Interrupted in the middle and continued, it asks no question twice and ends with the same weights.
    original = callbacks.MetricsHistory.on_epoch_begin

    def stop(self, epoch, logs=None):
        if "val_targeted_success_rate" in (self.rows or [{}])[-1] and epoch == 2:
            raise Stop
        original(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.MetricsHistory, "on_epoch_begin", stop)
        with pytest.raises(Stop):
            training.train_and_export(config, cut)
    assert training.train_and_export(config, cut)["queries"] == result["queries"]
    assert_same_arrays(saved_weights(cut / "generator.weights.h5"), saved_weights(whole / "generator.weights.h5"))


def rewritten(path, **changes):
    with np.load(path) as answers:
        np.savez(path, **{name: changes.get(name, lambda same: same)(answers[name]) for name in answers.files})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a zip file"),
        (lambda path: path.write_bytes(b""), "No data left"),
        (lambda path: path.write_bytes(b"PK\x03\x04"), "not a zip file"),
        (lambda path: np.savez(path, train=np.zeros(3)), "validation"),
        (
            lambda path: rewritten(path, train=lambda answers: answers[:5]),
            r"\(5, 10\) instead of float32 of \(200, 10\)",
        ),
        (lambda path: rewritten(path, validation=lambda answers: answers[:, :9]), r"\(50, 9\)"),
        (lambda path: rewritten(path, train=lambda answers: answers.astype(np.float64)), "float64"),
        (lambda path: rewritten(path, train=lambda answers: answers * np.nan), "no probabilities"),
        (lambda path: rewritten(path, train=lambda answers: answers - 1), "no probabilities"),
        (lambda path: rewritten(path, train=lambda answers: answers[::-1]), None),  # which only its digest tells
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_damaged_answers_of_a_black_box_are_refused(
    damage, words, sealed, digits, digit_classifier, tmp_path, monkeypatch
):
    learned = []

    def trained(config, dataset, folder):
        learned.append(dataset)
        return functools.partial(digit_classifier)

    monkeypatch.setattr(classifier_training, "trained_classifier", trained)
    few = dataclasses.replace(
        digits, train=digits.train.take(slice(0, 200)), validation=digits.train.take(slice(0, 50))
    )
    arguments = make_config(black_box="small"), few, Workdir(tmp_path), BlackBox(digit_classifier)
    for _ in range(2):
        _, answered = black_box.train_surrogate(*arguments)
        np.testing.assert_allclose(
            answered.train.labels, tf.nn.softmax(digit_classifier(few.train.as_float())), atol=1e-6
        )
    path = tmp_path / "surrogate" / "answers.npz"
    damage(path)
    if not sealed:
        (tmp_path / "surrogate" / "digests.json").unlink()
    if words is None and not sealed:
        return
    expected = r"answers\.npz is not what train\.py wrote.*expected" if sealed else f"{words}.*expected the answers on"
    with pytest.raises(InputError, match=expected) as caught:
        black_box.train_surrogate(*arguments)
    assert "\n" not in str(caught.value)
    assert len(learned) == 2


@pytest.mark.long
def test_a_classifier_without_a_gradient_is_attacked_as_a_black_box(finished, tmp_path, short_recipe):
    inputs = keras.Input((8, 8, 1))
    original = keras.models.load_model(finished[0] / "classifier.keras")
    rounded = keras.ops.round(inputs * 16) / 16  # the digits have 17 grey levels: the answers stay, the gradient goes
    keras.Model(inputs, original(rounded)).save(tmp_path / "rounds.keras")
    settings = {**TINY, "classifier": str(tmp_path / "rounds.keras"), "classifier_epochs": 0, "steps_per_epoch": 2}
    with pytest.raises(InputError, match=r"no usable gradient.*--black_box"):
        training.train_and_export(make_config(**settings), tmp_path / "run")
    config = make_config(**settings, black_box="small", queries_per_epoch=20)
    result = training.train_and_export(config, tmp_path / "run")
    assert result["queries"] > 20
    compared = compare.evaluate_workdir(tmp_path / "run", output=str(tmp_path / "out"))
    assert compared["queries"] == result["queries"]
    assert compared["warnings"] == []
    assert f"{result['queries']:,} images" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(InputError, match="--attacks has pgd, which follows the classifier's gradient"):
        compare.evaluate_workdir(tmp_path / "run", attacks=("aigan", "pgd"), output=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


# --- evaluate.py on what a run left


def test_the_exported_generator_is_measured_as_the_trained_one_was(finished, tmp_path, capsys):
    folder, result = finished
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    output = tmp_path / "again"
    again = compare.evaluate_workdir(folder, output=str(output))
    assert {entry.name for entry in output.iterdir()} == {"report.json", "report.csv", "report.html"}
    assert json.loads((output / "report.json").read_text()) == again
    assert untimed(again["attacks"]["aigan"]) == {k: v for k, v in untimed(result).items() if k != "device"}
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    printed = capsys.readouterr().out
    assert f"{result['success_rate']:.1%}" in printed
    assert "will be replaced" not in printed
    few = compare.evaluate_workdir(folder, num_examples=7, output=str(output))["attacks"]["aigan"]
    assert few["num_examples"] == 7
    assert few["num_attacks"] == 9 * few["num_correct"]
    assert f"The earlier report in {output} will be replaced" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.long
def test_the_generator_is_compared_with_other_attacks_on_the_same_images(finished, tmp_path, monkeypatch, capsys):
    for name, value in dict(binary_search_steps=2, steps=50, stepsize=0.1).items():
        monkeypatch.setitem(foolbox_attacks.CW_SETTINGS, name, value)  # its strength is tested where it is built
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    advgan.train_advgan(make_config(**TINY), folder, target_classes="3,7", epochs=1)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    names = ("aigan", "aigan_stage1", "advgan", "fgsm", "pgd", "cw")
    result = compare.evaluate_workdir(
        folder, attacks=names, num_examples=12, save_images=str(tmp_path / "pictures"), transfer_to=("small",)
    )
    rows = result["attacks"]
    assert list(rows) == [*names, "cw, moved into epsilon"]
    count = rows["aigan"]["num_correct"]
    assert 1 <= count <= 12
    attacks = {name: row["num_attacks"] for name, row in rows.items()}
    assert attacks["aigan"] == attacks["aigan_stage1"] == attacks["fgsm"] == attacks["pgd"] == 9 * count
    assert attacks["cw"] == attacks["cw, moved into epsilon"] == count
    tried = {name: rate is not None for name, rate in rows["advgan"]["success_by_class"].items()}
    assert [name for name, was in tried.items() if was] == ["3", "7"]
    assert rows["pgd"]["success_rate"] >= rows["fgsm"]["success_rate"]
    assert rows["pgd"]["success_rate"] > rows["aigan"]["success_rate"]  # of a generator trained for twelve steps
    assert rows["aigan_stage1"]["mean_l2"] != rows["aigan"]["mean_l2"]
    assert rows["cw"]["success_rate"] >= rows["cw, moved into epsilon"]["success_rate"]
    for name, row in rows.items():
        assert name == "cw" or row["max_linf_float"] <= 0.3 + 1e-6
        assert row["milliseconds_per_image"] > 0
    assert result["images_until_training_is_paid_for"] > 0
    assert result["mean_success_on_advgan_targets"].keys() == {"aigan", "advgan"}
    assert result["versions"]["foolbox"]
    assert "7 (1 epochs, " in result["settings"]["advgan"]
    assert set(result["settings"]) == set(names)
    curves = result["success_by_epsilon"]
    assert set(curves) == {"aigan, perturbation scaled down", "fgsm", "pgd"}
    assert curves["pgd"][-1]["epsilon"] == pytest.approx(0.3)
    assert curves["pgd"][-1]["success_rate"] > curves["pgd"][0]["success_rate"]
    assert set(result["transfer"]) == {"small"}
    assert result["transfer"]["small"]["num_attacks"] > 0

    evaluation = folder / "evaluation"
    assert json.loads((evaluation / "report.json").read_text()) == result
    with open(evaluation / "report.csv", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [*rows, "small"]
    html = (evaluation / "report.html").read_text()
    assert html.count("<figure>") == 4  # pictures, bars, matrix, curves
    assert f"{rows['pgd']['success_rate']:.1%}" in html
    assert "http" not in html.replace("http://www.w3.org", "")  # nothing is loaded from elsewhere
    assert {path: path.read_bytes() for path in before} == before
    printed = capsys.readouterr().out
    device = json.loads((folder / "report.json").read_text())["device"]
    assert result["generator_training_device"] == device
    assert f" s: {device}) is paid for after " in printed
    assert f"{rows['pgd']['success_rate']:.1%}" in printed

    # The rate again, by foolbox, from the saved pictures alone.
    rows_of = pictures_by_attack(tmp_path / "pictures")
    assert {name: len(pictures) for name, pictures in rows_of.items()} == attacks
    model = foolbox.TensorFlowModel(keras.models.load_model(folder / "classifier.keras"), bounds=(0, 1))
    for name, pictures in rows_of.items():
        images = tf.stack([tf.io.decode_png((tmp_path / "pictures" / row["file"]).read_bytes()) for row in pictures])
        aims = tf.constant([int(row["target"]) for row in pictures], tf.int64)
        rate = foolbox.accuracy(model, tf.cast(images, tf.float32) / 255.0, aims)
        assert rate == pytest.approx(rows[name]["success_rate"], abs=1e-3)
        assert [int(row["predicted"]) == int(row["target"]) for row in pictures].count(True) == round(
            rate * len(pictures)
        )


def pictures_by_attack(folder):
    rows = {}
    for row in metrics_rows(folder, name="manifest.csv"):
        rows.setdefault(row["attack"], []).append(row)
    return rows


def test_pictures_are_not_mixed_into_a_folder_that_holds_something(finished, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("kept")
    with pytest.raises(InputError, match="expected a new or an empty folder"):
        compare.evaluate_workdir(finished[0], save_images=str(tmp_path / "mine"), output=str(tmp_path / "out"))
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["a.txt"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(attacks=("advgan",)), ["advgan", "expected one for each target class", "--method=advgan"]),
        (dict(num_examples=-1), ["num_examples=-1", "expected 0"]),
        (dict(attacks=("fgsm",), transfer_to=("small",)), ["transfer_to", "expected both"]),
        (dict(transfer_to=("small", "no/such.keras")), ["--transfer_to=no/such.keras does not exist"]),
        (dict(transfer_to=("small", "A")), ["--transfer_to=A", "expected at least"]),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(arguments, words, finished, tmp_path, capsys):
    with pytest.raises(InputError) as caught:
        compare.evaluate_workdir(finished[0], output=str(tmp_path / "out"), **arguments)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value
    assert "Training" not in capsys.readouterr().out  # nor is any other classifier of --transfer_to trained first
    assert not (tmp_path / "out").exists()


def test_a_report_that_could_not_be_written_is_refused_before_anything_is_measured(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match=r"--output=.*file is a file; expected a writable folder"):
            compare.evaluate_workdir(finished[0], output=str(output))
    assert "Measuring" not in capsys.readouterr().out
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    ("shape", "classes", "words"),
    [((8, 8, 1), 5, r"shape \(5,\) an image; expected \(10,\)"), ((9, 9, 3), 10, r"fails on images of \(8, 8, 1\)")],
)
def test_a_classifier_the_pictures_cannot_be_shown_to_is_refused_before_anything_is_measured(
    shape, classes, words, finished, tmp_path, capsys
):
    shutil.copytree(finished[0], tmp_path / "other")
    layers = [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)]
    keras.Sequential(layers).save(tmp_path / "other" / "classifier.keras")
    (tmp_path / "other" / "digests.json").unlink()  # else it is refused as not the one that was written
    with pytest.raises(InputError, match=f"--transfer_to=.*other: .*{words}"):
        compare.evaluate_workdir(finished[0], transfer_to=(str(tmp_path / "other"),), output=str(tmp_path / "out"))
    assert "Measuring" not in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_work_folders_with_and_without_a_defence_are_set_side_by_side(finished, tmp_path, capsys):
    plain, defended = tmp_path / "plain", tmp_path / "defended"
    shutil.copytree(finished[0], plain)
    training.train_and_export(make_config(**TINY, defense="pgd"), defended)
    assert "under attack (pgd)" in capsys.readouterr().out
    paths = [str(plain), str(defended)]
    rows = defences.compare_defences(paths, num_examples=30, output=str(tmp_path / "out"))
    assert list(rows) == paths
    assert [row["defense"] for row in rows.values()] == ["none", "pgd"]
    for path, row in rows.items():
        report = json.loads((tmp_path / path / "evaluation" / "report.json").read_text())
        assert row["success_rate"]["aigan"] == report["attacks"]["aigan"]["success_rate"]
        assert row["robust_accuracy"]["pgd"] <= row["robust_accuracy"]["fgsm"] <= row["clean_accuracy"]
    assert json.loads((tmp_path / "out" / "defenses.json").read_text()) == rows
    printed = capsys.readouterr().out
    html = (tmp_path / "out" / "defenses.html").read_text()
    for row in rows.values():
        assert f"{row['robust_accuracy']['pgd']:.2%}" in printed
        assert f"{row['robust_accuracy']['pgd']:.2%}" in html


@pytest.mark.long
def test_an_ensemble_defence_trains_its_static_classifiers_once(tmp_path, monkeypatch):
    config = make_config(**{**TINY, "classifier": "resnet20", "classifier_epochs": 1}, defense="ensemble")
    dataset = datasets.load_dataset(config, None)
    few = dataclasses.replace(dataset, train=dataset.train.take(slice(0, 128)))
    folder = Workdir(tmp_path / "run")
    classifier_training.trained_classifier(config, few, folder)
    static = {path: path.read_bytes() for path in folder.path.glob("ensemble/*/classifier.keras")}
    assert [path.parent.name for path in static] == ["small"]  # digits are too small for A, B and C
    folder.classifier.unlink()
    classifier_training.trained_classifier(config, few, folder)
    assert {path: path.read_bytes() for path in static} == static


def test_an_unknown_attack_is_named(finished):
    for attacks, word in ((("aigan", "deepfool"), "deepfool"), ((), "none")):
        with pytest.raises(InputError, match=f"{word}.*expected some of aigan, aigan_stage1, advgan, fgsm, pgd, cw"):
            compare.evaluate_workdir(finished[0], attacks=attacks)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder / "generator"), ["no exported generator", "expected", "train.py"]),
        (
            lambda folder: (folder / "generator/1/saved_model.pb").write_bytes(b"no"),
            ["generator/1", "expected", "again"],
        ),
        (lambda folder: (folder / "classifier.keras").write_bytes(b"no"), ["classifier.keras", "expected", "restore"]),
        (lambda folder: (folder / "classifier.keras").unlink(), ["classifier.keras", "expected", "restore"]),
        (
            lambda folder: (folder / "generator_stage1.weights.h5").write_bytes(b"no"),
            ["generator_stage1.weights.h5", "expected", "restore"],
        ),
        (lambda folder: (folder / "metrics.csv").unlink(), ["metrics.csv", "expected", "restore"]),
        (lambda folder: (folder / "config.json").unlink(), ["config.json", "expected", "train"]),
        (
            lambda folder: (folder / "config.json").write_text("{}"),
            ["config.json has no dataset", "expected", "restore"],
        ),
        (lambda folder: set_in_config(folder, epsilon="0.3"), ["config.json", "--epsilon=0.3", "expected a number"]),
        (lambda folder: set_in_config(folder, black_box="vgg"), ["config.json", "--black_box=vgg", "expected"]),
        (lambda folder: set_in_config(folder, black_box="small"), ["metrics.csv", "queries", "restore"]),
        (
            lambda folder: set_in_config(folder, attack="untargeted"),
            ["generator/1", "expected the untargeted", "again"],
        ),
        (lambda folder: set_in_config(folder, variable_epsilon=True), ["generator/1", "expected", "again"]),
        (lambda folder: set_in_config(folder, image_size="9,16"), ["classifier.keras", "(9, 16, 1)", "expected"]),
        (lambda folder: pipe(folder / "generator_stage1.weights.h5"), ["generator_stage1.weights.h5", "expected"]),
        (lambda folder: pipe(folder / "classifier.keras"), ["classifier.keras", "expected", "restore"]),
    ],
)
@pytest.mark.parametrize("sealed", [True, False])
def test_a_damaged_work_folder_is_refused_in_one_line(damage, words, sealed, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    if not sealed:  # as earlier versions left it
        (folder / "digests.json").unlink()
    report = (folder / "report.json").read_bytes()
    damage(folder)
    with pytest.raises(InputError) as caught:
        compare.evaluate_workdir(folder, attacks=("aigan", "aigan_stage1"), num_examples=20)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value
    assert (folder / "report.json").read_bytes() == report


def pipe(path):
    """Puts a pipe, for which a reader would wait, in the place of a file."""
    path.unlink()
    os.mkfifo(path)


def set_in_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def of_somebody_else(finished, tmp_path):
    """A work folder with a classifier of its own, whose config.json names Python that leaves the file "ran"; both files."""
    folder, own, code = tmp_path / "theirs", tmp_path / "own.keras", tmp_path / "theirs" / "layers.py"
    shutil.copytree(finished[0], folder)
    shutil.copy(folder / "classifier.keras", own)
    code.write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    set_in_config(folder, classifier=str(own), classifier_epochs=0, custom_objects=str(code))
    return folder, own, code


@pytest.mark.parametrize("use", ["evaluated", "set side by side", "shown its pictures", "exported again"])
def test_python_that_a_work_folder_names_is_run_only_if_the_user_names_it_too(
    use, of_somebody_else, finished, tmp_path
):
    folder, _, code = of_somebody_else

    def attempt(**named):
        if use == "exported again":
            return training.export_run(folder, export_classifier=True, **named)
        named["output"] = str(tmp_path / "out")
        if use == "set side by side":
            return defences.compare_defences([str(finished[0]), str(folder)], num_examples=5, **named)
        if use == "shown its pictures":
            return compare.evaluate_workdir(finished[0], num_examples=5, transfer_to=(str(folder),), **named)
        return compare.evaluate_workdir(folder, num_examples=5, **named)

    other = tmp_path / "other.py"
    other.write_text("")
    for named in ((), (str(other),)):
        with pytest.raises(InputError) as caught:
            attempt(custom_objects=named)
        assert "\n" not in str(caught.value)
        for words in (f"custom_objects={code}", "expected you to name it too", f"give --custom_objects={code}"):
            assert words in str(caught.value)
    with pytest.raises(InputError, match=r"--custom_objects=no/such\.py does not exist; expected a Python file"):
        attempt(custom_objects=("no/such.py",))
    assert not (folder / "ran").exists()
    if use != "set side by side":  # which takes half a minute
        attempt(custom_objects=(str(other), str(code.parent / ".." / "theirs" / code.name)))
        assert (folder / "ran").exists()


@pytest.mark.parametrize("changed", ["dataset", "class_names", "classifier", "custom_objects"])
def test_files_of_ones_own_that_changed_since_are_seen(changed, of_somebody_else, tmp_path):
    folder, own, code = of_somebody_else
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"digit {k}" for k in range(10)))
    settings = dict(class_names=str(names))
    pictures = tmp_path / "pictures"
    if changed == "dataset":  # whose generator is another: nothing gets as far as that
        for split in ("train", "test"):
            for name in "ab":
                (pictures / split / name).mkdir(parents=True)
                for k in range(2):
                    png = tf.io.encode_png(tf.fill((8, 8, 1), tf.cast(k, tf.uint8))).numpy()
                    (pictures / split / name / f"{k}.png").write_bytes(png)
        settings = dict(dataset=str(pictures))
    set_in_config(folder, **settings)
    config = workdir.config_of(Workdir(folder))
    dataset = datasets.load_dataset(config, None)
    paths = {
        "dataset": pictures / "test" / "a" / "1.png",
        "class_names": names,
        "classifier": own,
        "custom_objects": code,
    }
    digests = workdir.digests_of(config, list(paths), dataset)
    assert set(digests) == set(paths) - {"class_names" if changed == "dataset" else "dataset"}
    set_in_config(folder, digests=digests)
    attempts = [
        lambda: compare.evaluate_workdir(folder, num_examples=5, custom_objects=[code]),
        lambda: training.export_run(folder, export_classifier=True, custom_objects=[code]),
        lambda: training.train_and_export(config, folder),
    ]
    if changed != "dataset":
        attempts[0]()
    paths[changed].write_bytes({
        "dataset": tf.io.encode_png(tf.zeros((8, 8, 1), tf.uint8)).numpy(),
        "class_names": names.read_bytes()[::-1],
        "classifier": (folder / "classifier.keras").read_bytes() + b"\0",
        "custom_objects": b"import pathlib; pathlib.Path(__file__).with_name('ran again').touch()\n",
    }[changed])  # fmt: skip
    for attempt in attempts[: 1 if changed == "dataset" else 3]:
        assert not (folder / "ran again").exists()  # train.py's own flags name the file
        with pytest.raises(
            InputError, match=f"--{changed}=.* whose files have changed since; expected the same content"
        ):
            attempt()
    assert [entry.name for entry in (folder / "generator").iterdir()] == ["1"]


def test_exchanged_weights_are_seen_and_an_earlier_version_s_taken(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    shutil.copy(folder / "generator_stage1.weights.h5", folder / "generator.weights.h5")
    with pytest.raises(InputError, match=r"generator\.weights\.h5 is not what train\.py wrote.*expected.*restore"):
        training.export_run(folder)
    assert [entry.name for entry in (folder / "generator").iterdir()] == ["1"]
    (folder / "digests.json").unlink()
    training.export_run(folder)
    assert len(list((folder / "generator").iterdir())) == 2


def truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("ending", ["data-00000-of-00001", "index"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(ending, finished, tmp_path, monkeypatch, capsys):
    folder, _ = finished
    run = tmp_path / "run"
    shutil.copytree(folder.parent / "aigan3_saved", run)
    truncate(run / "checkpoints" / "aigan" / f"ckpt-12.{ending}")
    stop_before_evaluation(monkeypatch)
    with pytest.raises(Stop):
        training.train_and_export(make_config(**TINY), run)
    said = capsys.readouterr().out
    assert said.count("Warning") == 1
    assert "ckpt-12 cannot be restored" in said
    assert "after step 9 of 12" in said
    assert_same_end(run, folder)
    assert sorted(path.stem for path in (run / "checkpoints" / "aigan").glob("*.index")) == ["ckpt-12", "ckpt-9"]


def test_where_every_checkpoint_is_damaged_nothing_is_trained_anew(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0].parent / "aigan3_saved", folder)
    for path in (folder / "checkpoints" / "aigan").glob("*.data*"):
        truncate(path)
    with pytest.raises(InputError, match=r"none of the 2 checkpoints.*expected.*delete that folder") as caught:
        training.train_and_export(make_config(**TINY), folder)
    assert "\n" not in str(caught.value)


def test_a_finished_run_needs_no_checkpoint(finished, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    for path in (folder / "checkpoints" / "aigan").glob("*.data*"):
        truncate(path)
    weights = (folder / "generator.weights.h5").read_bytes()
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    assert untimed(training.train_and_export(make_config(**TINY), folder)) == untimed(finished[1])
    assert (folder / "generator.weights.h5").read_bytes() == weights


def raise_signal_at(monkeypatch, step, number=signal.SIGTERM):
    """Sends this process a signal within that step of the generator's training; steps are counted from 1."""
    original = callbacks.MetricsHistory.on_train_batch_begin

    def on_train_batch_begin(self, batch, logs=None):
        original(self, batch, logs)
        optimizer = getattr(self.model, "generator_optimizer", None)
        if optimizer is not None and int(optimizer.iterations) + 1 == step:
            signal.raise_signal(number)

    monkeypatch.setattr(callbacks.MetricsHistory, "on_train_batch_begin", on_train_batch_begin)


@pytest.mark.parametrize(
    ("step", "stage"),
    [(5, 1), pytest.param(6, 1, marks=pytest.mark.long), pytest.param(8, 2, marks=pytest.mark.long)],
    ids=["within an epoch", "at its end", "within one of stage 2"],
)
def test_a_run_stopped_within_an_epoch_goes_on_bit_for_bit(step, stage, finished, tmp_path, monkeypatch, capsys):
    folder, _ = finished
    run = tmp_path / "run"
    shutil.copytree(folder.parent / "aigan0_unsaved", run)
    with monkeypatch.context() as patch:
        raise_signal_at(patch, step)
        with pytest.raises(Terminated):
            training.train_and_export(make_config(**TINY), run)
    assert (f"Saved after step {step}." in capsys.readouterr().out) == (step % 3 != 0)
    assert (run / "checkpoints" / "aigan" / f"ckpt-{step}.index").exists()
    assert len(metrics_rows(run)) == step // 3
    stop_before_evaluation(monkeypatch)
    with pytest.raises(Stop):
        training.train_and_export(make_config(**TINY), run)
    assert f"after step {step} of 12, in stage {stage if step % 3 else 2}" in capsys.readouterr().out
    rows, whole = metrics_rows(run, "seconds"), metrics_rows(folder, "seconds")
    for number, (row, expected) in enumerate(zip(rows, whole, strict=True)):
        if number == step // 3 and step % 3:  # what training reports is over the rest of the epoch
            row = {name: value for name, value in row.items() if name.startswith(("epoch", "stage", "val_"))}
        assert row.items() <= expected.items()
    assert_same_weights(run, folder)


@pytest.mark.long
def test_one_generator_for_every_budget(finished, tmp_path, capsys):
    """From the flag to the exported signature and the curve in the report."""
    settings = {**TINY, "classifier": str(finished[0] / "classifier.keras"), "classifier_epochs": 0}
    settings |= dict(steps_per_epoch=2, stage1_epochs=1, stage2_epochs=1, variable_epsilon=True)
    training.train_and_export(make_config(**settings), tmp_path / "run")
    printed = capsys.readouterr().out
    curve = json.loads((tmp_path / "run" / "report.json").read_text())["success_by_epsilon"]
    assert [point["epsilon"] for point in curve] == pytest.approx([0.3 * k / 8 for k in range(1, 9)])
    assert all(0 <= point["success_rate"] <= 1 for point in curve)
    norms = [point["mean_l2"] for point in curve]
    assert norms == sorted(norms)
    assert norms[0] < 0.5 * norms[-1]
    assert "epsilon 0.0375" in printed
    assert set(json.loads((tmp_path / "run" / "config.json").read_text())["digests"]) == {"classifier"}
