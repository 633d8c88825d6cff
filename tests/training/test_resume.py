"""An interrupted run ends as an uninterrupted one, and files that changed meanwhile are seen."""

import shutil
import signal

import keras
import pytest
from tiny_runs import Stop, differ, different_end, metrics_rows, stop, tiny, train

from aigan_tf.engine.callbacks import MetricsHistory
from aigan_tf.errors import InputError, Terminated
from aigan_tf.training import run


@pytest.fixture
def left_at(finished, tmp_path):
    """Returns what a kill at a moment of the finished run would have left: a copy of its folder."""
    return lambda moment: shutil.copytree(finished[0].parent / moment, tmp_path / "run")


@pytest.mark.parametrize(
    "moment",
    [
        "aigan1_unsaved",  # stage 1 has written all its files, but no checkpoint knows
        "aigan1_saved",  # stage 2 has just begun
        "aigan3_saved",  # all epochs are done, the weights are not written
    ],
)
def test_killed_run_ends_bit_for_bit_as_an_uninterrupted_one(moment, finished, left_at):
    folder = left_at(moment)
    train(tiny(), folder)
    assert not different_end(folder, finished[0])


def test_killed_training_of_the_classifier_ends_bit_for_bit_too(finished, left_at, monkeypatch):
    folder = left_at("classifier0_saved")
    monkeypatch.setattr(run, "train_generator", stop)
    with pytest.raises(Stop):
        run.train_and_export(tiny(), folder)
    resumed, whole = (
        keras.models.load_model(path / "classifier.keras", compile=False) for path in (folder, finished[0])
    )
    assert not differ(resumed.get_weights(), whole.get_weights())


@pytest.mark.parametrize(
    ("step", "stage"),
    [(5, 1), pytest.param(6, 2, marks=pytest.mark.long)],
    ids=["within an epoch", "at the end of stage 1"],
)
def test_terminated_run_continues_bit_for_bit(step, stage, finished, left_at, monkeypatch, capsys):
    """SIGTERM within a step of the generator's training; steps are counted from 1."""
    folder, original = left_at("aigan0_unsaved"), MetricsHistory.on_train_batch_begin

    def on_train_batch_begin(self, batch, logs=None):
        original(self, batch, logs)
        if self.model.generator_optimizer.iterations == step - 1:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsHistory, "on_train_batch_begin", on_train_batch_begin)
        with pytest.raises(Terminated):
            run.train_and_export(tiny(), folder)
    assert (f"Saved after step {step}." in capsys.readouterr().out) == (step % 3 != 0)
    assert (folder / "checkpoints" / "aigan" / f"ckpt-{step}.index").exists()
    rows = step // 3
    assert metrics_rows(folder, "seconds") == metrics_rows(finished[0], "seconds")[:rows]
    for name in ("generator.weights.h5", "generator", "report.json"):
        assert not (folder / name).exists()
    assert [path.name for path in folder.rglob(".*")] in ([], [".lock"])
    train(tiny(), folder)
    assert f"after step {step} of 12, in stage {stage}" in capsys.readouterr().out
    # Training metrics of the interrupted epoch are means over the rest of its steps.
    means = {f"metrics.csv {rows}", f"logs/train step {rows + 1}"} if step % 3 else set()
    assert different_end(folder, finished[0]) == means


def test_damaged_checkpoints_fall_back_to_a_whole_one_and_never_to_the_first_weights(finished, left_at, capsys):
    folder = left_at("aigan3_saved")
    older, newest = sorted((folder / "checkpoints" / "aigan").glob("*.data*"), key=lambda path: "ckpt-12" in path.name)
    whole = older.read_bytes()
    for path in (older, newest):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="none of the 2 checkpoints"):
        run.train_and_export(tiny(), folder)
    capsys.readouterr()
    older.write_bytes(whole)
    train(tiny(), folder)
    printed = capsys.readouterr().out
    assert printed.lower().count("warning") == 1
    assert "ckpt-12" in printed
    assert "after step 9 of 12" in printed
    assert not different_end(folder, finished[0])


def test_history_that_does_not_reach_the_checkpoint_is_refused_and_kept(left_at):
    path = left_at("aigan3_saved") / "metrics.csv"
    kept = "".join(path.read_text().splitlines(keepends=True)[:3])
    path.write_text(kept)
    with pytest.raises(InputError, match=r"metrics\.csv lacks epoch"):
        run.train_and_export(tiny(), path.parent)
    assert path.read_text() == kept
