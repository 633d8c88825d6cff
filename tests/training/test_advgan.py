"""AdvGAN's generators beside the AI-GAN of a run."""

import json
import shutil

import numpy as np
import pytest
from kill_and_resume import differences, weights
from tiny_runs import Stop, change_config, contents, metrics_rows

from aigan_tf.engine import callbacks
from aigan_tf.errors import InputError
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.training import advgan
from aigan_tf.training.advgan import classes_named, train_advgan


@pytest.mark.long
def test_advgan_trains_the_given_classes_and_continues_where_it_was(run_folder, capsys, monkeypatch):
    before = contents(run_folder)
    train_advgan(run_folder, ["3", "7"], epochs=2)
    assert {entry.name for entry in (run_folder / "advgan").iterdir()} == {"3", "7"}
    for name in ("3", "7"):
        assert len(metrics_rows(run_folder / "advgan" / name)) == 2
        assert json.loads((run_folder / "advgan" / name / "config.json").read_text())["target_class"] == int(name)
    three, seven = (weights(run_folder / "advgan" / name / "generator.weights.h5") for name in ("3", "7"))
    assert differences(three, seven)
    assert {path: path.read_bytes() for path in before} == before  # the AI-GAN beside it is unchanged

    # Interrupted after its first epoch and continued, it ends with the same weights.
    shutil.rmtree(run_folder / "advgan")
    original = callbacks.MetricsHistory.on_epoch_begin

    def stop(self, epoch, logs=None):
        if epoch == 1:
            raise Stop
        original(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.MetricsHistory, "on_epoch_begin", stop)
        with pytest.raises(Stop):
            train_advgan(run_folder, ["3"], epochs=2)
    train_advgan(run_folder, ["3"], epochs=2)
    for name, array in weights(run_folder / "advgan" / "3" / "generator.weights.h5").items():
        np.testing.assert_allclose(
            array, three[name], atol=1e-4
        )  # sums of one embedding's gradient vary in their order
    assert "after step 3 of 6" in capsys.readouterr().out
    with pytest.raises(InputError, match="epochs=2"):
        train_advgan(run_folder, ["3"], epochs=3)


def test_advgan_never_sees_an_image_of_its_target(run_folder, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        advgan, "fit", lambda model, config, dataset, *others: seen.update({model.target_class: dataset})
    )
    train_advgan(run_folder)
    assert list(seen) == list(range(10))
    for target, dataset in seen.items():
        assert set(dataset.train.labels) == set(range(10)) - {target}
        assert target not in dataset.validation.labels
        assert target in dataset.test.labels


def test_evaluation_takes_only_folders_of_classes(run_folder, tmp_path):
    train_advgan(run_folder, ["3"], epochs=1)
    shutil.copytree(run_folder / "advgan" / "3", run_folder / "advgan" / "\u00b2")  # a digit, but not a number
    (run_folder / "generator" / "\u00b2").mkdir()
    options = dict(attacks=("aigan", "advgan"), num_examples=20, output=str(tmp_path / "out"))
    rates = evaluate_workdir(run_folder, **options)["attacks"]["advgan"]["success_by_class"]
    assert [name for name, rate in rates.items() if rate is not None] == ["3"]
    shutil.copytree(run_folder / "advgan" / "3", run_folder / "advgan" / "99")
    with pytest.raises(InputError, match="advgan/99"):
        evaluate_workdir(run_folder, **options)


@pytest.mark.parametrize(
    ("settings", "arguments", "setting", "word"),
    [
        ({}, dict(target_classes=["3", "10"]), None, "'10'"),
        ({}, dict(target_classes=["cat"]), None, "'cat'"),
        ({}, dict(epochs=0), "epochs", "0"),
        (dict(attack="untargeted"), {}, "attack", "untargeted"),
        (dict(black_box="small"), {}, "black_box", "small"),
        (dict(batch_size=1300), dict(target_classes=["3"]), "batch_size", "1300"),
    ],
)
def test_advgan_refuses_what_it_cannot_do_before_it_makes_a_folder(settings, arguments, setting, word, run_folder):
    change_config(run_folder, **settings)
    with pytest.raises(InputError, match=word) as error:
        train_advgan(run_folder, **arguments)
    assert error.value.setting == setting
    assert not (run_folder / "advgan").exists()


def test_advgan_needs_a_run_that_has_begun(tmp_path):
    with pytest.raises(InputError, match=r"config\.json"):
        train_advgan(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_classes_are_given_by_number_or_name():
    names = ("cat", "dog", "fish")
    assert classes_named((), names) == [0, 1, 2]
    assert classes_named(("2", "cat", "fish"), names) == [2, 0]
