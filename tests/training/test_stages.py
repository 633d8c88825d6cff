"""Both stages as a run plans and executes them: seed, schedule, switch, precision."""

import keras
import pytest
import tensorflow as tf
from kill_and_resume import differences, weights
from tiny_runs import against, metrics_rows, tiny, train

from aigan_tf import build
from aigan_tf.engine import precision
from aigan_tf.engine.time_left import TimeLeft
from aigan_tf.method.aigan import AIGAN
from aigan_tf.method.stages import StageSwitch
from aigan_tf.training import generator, run
from aigan_tf.workdir import Workdir


@pytest.mark.parametrize("stage", [1, 2])
def test_one_stage_alone_leaves_its_files_alone(stage, finished, tmp_path):
    folder = tmp_path / "run"
    train(against(finished, steps_per_epoch=1, stage1_epochs=2 - stage, stage2_epochs=stage - 1), folder)
    assert [row["stage"] for row in metrics_rows(folder)] == [str(stage)]
    assert [entry.name for entry in (folder / "samples").iterdir()] == [f"stage{stage}.png"]
    files = sorted(folder.glob("generator*.weights.h5"))
    assert len(files) == (2 if stage == 1 else 1)
    assert not differences(weights(files[0]), weights(files[-1]))  # without a stage 2 the result is that of stage 1


@pytest.mark.parametrize(
    ("settings", "success"),
    [(dict(switch_success=0.7), 0.7), (dict(switch_success=0.7, stage2_epochs=0), None)],
    ids=["success ends stage 1", "without a stage 2 nothing does"],
)
def test_seed_switch_and_schedule_are_those_of_the_settings(settings, success, digits, tmp_path, monkeypatch):
    config, fits, seeds = tiny(seed=5, **settings), [], []

    def fit(self, *_, **settings):
        fits.append((self, settings))
        self.stop_training = True  # or it would be missed that no step ran

    monkeypatch.setattr(AIGAN, "fit", fit)
    monkeypatch.setattr(generator, "training_batches", lambda *args, **kwargs: seeds.append(args[2]))
    generator.train_generator(config, digits, lambda images: images[:, 0, 0, :1] * tf.ones(10), Workdir(tmp_path))
    ((aigan, arguments),) = fits
    assert (aigan.seed, seeds) == (5, [5])
    (switch,) = (each for each in arguments["callbacks"] if isinstance(each, StageSwitch))
    assert (switch.success, switch.stage1_epochs, switch.epochs) == (success, 2, config.epochs)
    assert (arguments["epochs"], arguments["steps_per_epoch"]) == (config.epochs, 3)
    rates = []
    for step in (0, config.epochs * 3):  # a cosine over the whole run
        aigan.generator_optimizer.iterations.assign(step)
        rates.append(float(aigan.generator_optimizer.learning_rate))
    assert rates == pytest.approx([config.learning_rate, 0.0], abs=1e-9)


def test_untargeted_run_switches_at_its_success_and_serves_labels(finished, tmp_path):
    folder = tmp_path / "run"
    config = against(
        finished, attack="untargeted", epsilon=1.0, stage2_epochs=1, switch_success=0.05, steps_per_epoch=4,
        learning_rate=0.05, hinge_weight=0.0,
    )  # fmt: skip
    result = run.train_and_export(config, folder)
    rows = metrics_rows(folder)
    assert float(rows[0]["val_untargeted_success_rate"]) >= 0.05
    assert [row["stage"] for row in rows] == ["1", "2", "2"]  # stage 2 gets the epochs that stage 1 saved
    assert result["attack"] == "untargeted"
    assert result["num_attacks"] == result["num_correct"]
    assert "worst_target" not in result
    served = tf.saved_model.load(str(folder / "generator" / "1")).signatures["serving_default"]
    assert set(served.structured_input_signature[1]) == {"images", "label"}
    assert served(images=tf.zeros((2, 8, 8, 1)), label=tf.constant([0, 9]))["adversarial_images"].shape == (2, 8, 8, 1)


@pytest.mark.skipif(not precision.has_bfloat16(), reason="this processor has no bfloat16")
def test_mixed_precision_trains_in_bfloat16_and_measures_in_float32(finished, tmp_path):
    config, seen = against(finished, mixed_precision=True, stage1_epochs=0, stage2_epochs=1), set()

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.add(("train", option()))

        def on_test_batch_end(self, batch, logs=None):
            seen.add(("test", option()))

    def option():
        return tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16", False)

    with run.open_run(config, tmp_path / "run", None) as (config, folder, dataset, classifier, devices):
        aigan = build.build_aigan(config, dataset, classifier, 3)
        generator.fit(aigan, config, dataset, folder, TimeLeft(1, 3), devices, [Watch()])
    assert seen == {("train", True), ("test", False)}
    assert not option()  # the rest of the process keeps its precision
