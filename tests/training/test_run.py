"""train.py as a whole: what a run leaves in its folder, what it refuses, and its further exports."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from kill_and_resume import checkpoint, differences, events, weights
from tiny_runs import against, contents, metrics_rows, tiny, untimed

from aigan_tf.engine.callbacks import MetricsHistory
from aigan_tf.engine.precision import has_bfloat16
from aigan_tf.errors import DivergedError, InputError
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.training import run


def names_in(folder):
    return {entry.name for entry in folder.iterdir()}


def test_folder_holds_the_whole_run(finished):
    folder, _ = finished
    assert names_in(folder) - {".lock"} == {
        "config.json", "digests.json", "classifier.keras", "classifier_metrics.csv", "checkpoints",
        "generator_stage1.weights.h5", "generator.weights.h5", "generator", "logs", "metrics.csv", "samples",
        "report.json", "report.html",
    }  # fmt: skip
    assert names_in(folder / "samples") == {"stage1.png", "stage2.png"}
    assert names_in(folder / "generator") == {"1"}
    assert names_in(folder / "checkpoints") == {"classifier", "aigan"}
    for image in (folder / "samples").iterdir():
        assert tf.io.decode_png(image.read_bytes()).shape[-1] in (3, 4)
    assert differences(*(weights(folder / f"generator{stage}.weights.h5") for stage in ("_stage1", "")))


def test_metrics_have_one_row_per_epoch_and_tensorboard_shows_them(finished):
    folder, _ = finished
    rows = metrics_rows(folder)
    assert [(row["epoch"], row["stage"]) for row in rows] == [("1", "1"), ("2", "1"), ("3", "2"), ("4", "2")]
    both = ("targeted_success_rate", "perturbation_l2", "perturbation_linf", "generator_loss", "hinge_loss")
    names = [*both, *(f"val_{name}" for name in both), "adversarial_loss", "gan_loss", "discriminator_loss"]
    for row in rows:
        assert np.isfinite([float(row[name]) for name in names]).all()
        for name in ("perturbation_linf", "val_perturbation_linf"):
            assert 0 < float(row[name]) <= 0.3 + 1e-6

    shown = {place: values[::2] for place, values in events(folder / "logs").items()}
    epochs = {f"{part} step {epoch}" for part in ("train", "validation") for epoch in range(1, 5)}
    assert shown.keys() == {*epochs, "samples step 6", "samples step 12"}
    columns = rows[0].keys() - {"epoch", "seconds"}
    tags = {tag.removeprefix("epoch_") for tag in shown["train step 4"]}
    assert tags | {f"val_{tag.removeprefix('epoch_')}" for tag in shown["validation step 4"]} == columns

    rows = metrics_rows(folder, name="classifier_metrics.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all("stage" not in row and float(row["seconds"]) > 0 and 0 < float(row["val_accuracy"]) <= 1 for row in rows)


def test_finished_run_retrains_nothing_even_without_checkpoints(finished, run_folder, monkeypatch, capsys):
    for path in (run_folder / "checkpoints" / "aigan").glob("*.data*"):
        path.write_bytes(path.read_bytes()[:1000])
    before = contents(run_folder)
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: pytest.fail("trained again"))
    assert untimed(run.train_and_export(tiny(), run_folder)) == untimed(finished[1])
    printed = capsys.readouterr().out
    assert "Continuing" in printed
    named = [str(run_folder / "report.html"), f"--generator={run_folder}", f"--workdir={run_folder}", "docs/serving.md"]
    assert all(text in "\n".join(printed.splitlines()[-5:]) for text in named)
    measured = {run_folder / "report.json": b"", run_folder / "report.html": b""}
    assert contents(run_folder) | measured == before | measured


@pytest.mark.parametrize(
    ("settings", "setting", "word"),
    [
        (dict(classifier="A"), None, "8 x 8"),
        (dict(classifier="no/model.keras", classifier_epochs=None), "classifier", "no/model.keras"),
        (dict(batch_size=5000), "batch_size", "5000"),
        (dict(dataset="no/such/folder"), "dataset", "no/such/folder"),
        (dict(class_names="no/names.txt"), "class_names", "no/names.txt"),
        (dict(input_range=(0, 255)), "input_range", "no effect"),
    ],
)
def test_refused_run_creates_no_folder(settings, setting, word, tmp_path):
    with pytest.raises(InputError, match=word) as error:
        run.train_and_export(tiny(**settings), tmp_path / "run")
    assert setting in (None, error.value.setting)
    assert not list(tmp_path.iterdir())


def test_diverging_run_is_ended_and_keeps_its_last_good_checkpoint(finished, tmp_path, monkeypatch):
    """The generator breaks in its second epoch."""
    original = MetricsHistory.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 1:
            self.model.generator.head.bias.assign(self.model.generator.head.bias + np.nan)

    monkeypatch.setattr(MetricsHistory, "on_epoch_begin", on_epoch_begin)
    with pytest.raises(DivergedError) as error:
        run.train_and_export(against(finished), tmp_path / "run")
    good = tmp_path / "run" / "checkpoints" / "aigan" / "ckpt-3"
    for words in ("step 4", "loss is nan", str(good)):
        assert words in str(error.value)
    assert not (tmp_path / "run" / "generator.weights.h5").exists()
    assert [path.stem for path in good.parent.glob("*.index")] == ["ckpt-3"]
    assert all(np.isfinite(array).all() for array in checkpoint(good).values())


def test_second_export_adds_the_classifier_and_keeps_the_first(run_folder, digits):
    before = contents(run_folder)
    with pytest.raises(InputError, match="without the classifier"):
        run.train_and_export(tiny(), run_folder, export_classifier=True)
    assert run.export_run(run_folder, export_classifier=True) == run_folder / "generator" / "2"
    assert {path: path.read_bytes() for path in before} == before
    first, second = (tf.saved_model.load(str(run_folder / "generator" / version)) for version in "12")
    assert set(second.signatures) - set(first.signatures) == {"classify"}
    inputs = {
        "images": tf.constant(digits.test.take(slice(0, 20)).as_float()),
        "target_class": tf.constant((digits.test.labels[:20] + 1) % 10, tf.int32),
    }
    outputs = second.signatures["classify"](**inputs)
    adversarial_images = first.signatures["serving_default"](**inputs)["adversarial_images"]
    np.testing.assert_array_equal(outputs["adversarial_images"], adversarial_images)
    model = keras.models.load_model(run_folder / "classifier.keras", compile=False)
    np.testing.assert_allclose(outputs["logits"], model(adversarial_images, training=False), atol=1e-4)
    preset = json.loads((run_folder / "generator" / "2" / "assets" / "preset.json").read_text())
    assert (preset["dataset"], preset["epsilon"], preset["classifier"]) == ("digits", 0.3, "small")
    assert (preset["attack"], preset["image_shape"]) == ("targeted", [8, 8, 1])


def test_exchanged_or_missing_weights_are_not_exported(run_folder):
    shutil.copy(run_folder / "generator_stage1.weights.h5", run_folder / "generator.weights.h5")
    with pytest.raises(InputError, match=r"generator\.weights\.h5 is not what"):
        run.export_run(run_folder)
    assert names_in(run_folder / "generator") == {"1"}
    (run_folder / "digests.json").unlink()  # without a digest they pass
    run.export_run(run_folder)
    assert names_in(run_folder / "generator") == {"1", "2"}
    (run_folder / "generator.weights.h5").unlink()
    with pytest.raises(InputError, match=r"generator\.weights\.h5 does not exist"):
        run.export_run(run_folder)


@pytest.mark.long
def test_a_run_without_weights_and_checkpoints_goes_on_by_its_export(finished, run_folder, capsys):
    """As those under pretrained/."""
    for file in (*run_folder.glob("*.weights.h5"), run_folder / "checkpoints"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert untimed(run.train_and_export(tiny(), run_folder)) == untimed(finished[1])
    run.export_run(run_folder)
    run.export_run(run_folder, bfloat16=True)
    folders = [run_folder / "generator" / version for version in "123"]
    first, *others = (checkpoint(folder / "variables" / "variables") for folder in folders)
    assert first
    assert not any(differences(first, other) for other in others)
    presets = [json.loads((folder / "assets" / "preset.json").read_text()) for folder in folders]
    assert [preset["bfloat16"] for preset in presets] == [False, False, True]
    assert ("bfloat16 instructions" in capsys.readouterr().out) != has_bfloat16()
    with pytest.raises(InputError) as error:
        run.train_and_export(tiny(stage2_epochs=9), run_folder, extend=True)
    assert error.value.setting == "stage2_epochs"
    with pytest.raises(InputError) as error:
        evaluate_workdir(run_folder, attacks=["aigan_stage1"])
    assert error.value.setting == "attacks"
    (run_folder / "generator" / "3" / "variables" / "variables.index").write_bytes(b"")
    with pytest.raises(InputError, match="is not what"):
        run.export_run(run_folder)
    (run_folder / "digests.json").unlink()
    with pytest.raises(InputError, match="cannot be loaded"):
        run.export_run(run_folder)
