"""AdvGAN's generators beside the AI-GAN of a run."""

import json
import shutil

import numpy as np
import pytest
from kill_and_resume import differences, weights
from tiny_runs import Stop, change_config, contents, metrics_rows

from aigan_tf.engine.callbacks import MetricsHistory
from aigan_tf.errors import InputError
from aigan_tf.training import advgan
from aigan_tf.training.advgan import train_advgan


@pytest.mark.long
def test_advgan_trains_the_given_classes_and_continues_where_it_was(run_folder, capsys, monkeypatch):
    before = contents(run_folder)
    train_advgan(run_folder, ["3", "7"], epochs=2)
    folders = {entry.name: entry for entry in (run_folder / "advgan").iterdir()}
    assert folders.keys() == {"3", "7"}
    for name, folder in folders.items():
        assert len(metrics_rows(folder)) == 2
        assert json.loads((folder / "config.json").read_text())["target_class"] == int(name)
    three, seven = (weights(folders[name] / "generator.weights.h5") for name in ("3", "7"))
    assert differences(three, seven)
    assert {path: path.read_bytes() for path in before} == before  # the AI-GAN beside it is unchanged

    # Interrupted after its first epoch and continued, it ends with the same weights.
    shutil.rmtree(run_folder / "advgan")
    original = MetricsHistory.on_epoch_begin

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise Stop
        original(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsHistory, "on_epoch_begin", on_epoch_begin)
        with pytest.raises(Stop):
            train_advgan(run_folder, ["3"], epochs=2)
    train_advgan(run_folder, ["3"], epochs=2)
    for name, array in weights(folders["3"] / "generator.weights.h5").items():
        # Sums of one embedding's gradient vary in their order.
        np.testing.assert_allclose(array, three[name], atol=1e-4)
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


@pytest.mark.parametrize(
    ("settings", "arguments", "setting", "word"),
    [
        ({}, dict(target_classes=["3", "10"]), None, "class 10"),
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
