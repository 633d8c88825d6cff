"""More epochs for a run that has begun or is finished."""

import json
import shutil
import signal

import pytest
from kill_and_resume import checkpoint, differences, weights
from tiny_runs import Stop, contents, metrics_rows, stop, tiny, train

from aigan_tf.engine.callbacks import MetricsHistory
from aigan_tf.engine.checkpoints import Checkpoint
from aigan_tf.errors import InputError, Terminated
from aigan_tf.training import run
from aigan_tf.workdir import Workdir

LONGER = tiny(stage2_epochs=4)  # six epochs instead of four, of three steps


def result_of(folder):
    """The weights and the last checkpoint of a run."""
    return weights(folder / "generator.weights.h5") | checkpoint(folder / "checkpoints" / "aigan" / "ckpt-18")


def train_without_export(folder, monkeypatch, **arguments):
    with monkeypatch.context() as patch:
        patch.setattr(run, "export", stop)
        with pytest.raises(Stop):
            run.train_and_export(LONGER, folder, **arguments)


@pytest.mark.long
def test_finished_run_gets_more_epochs_and_continues_among_them_bit_for_bit(
    finished, run_folder, tmp_path, monkeypatch
):
    before, cut, original = contents(run_folder), tmp_path / "cut", Checkpoint.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch == 4:  # what a kill would leave
            shutil.copytree(run_folder, cut)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "on_epoch_end", on_epoch_end)
        train(LONGER, run_folder, extend=True)
    for name in ("report.json", "generator/1/saved_model.pb", "generator_stage1.weights.h5", "samples/stage2.png"):
        assert (cut / name).read_bytes() == before[run_folder / name]  # those of the finished run stay in use
    kept = cut / "generator_4_epochs.weights.h5"
    assert not differences(weights(kept), weights(finished[0] / "generator.weights.h5"))
    with pytest.raises(InputError, match="stage2_epochs"):
        run.train_and_export(tiny(), cut, extend=True)
    train_without_export(cut, monkeypatch)
    assert not differences(result_of(run_folder), result_of(cut))
    assert differences(weights(cut / "generator.weights.h5"), weights(kept))
    assert [row["stage"] for row in metrics_rows(cut)] == list("112222")
    assert {path.name for path in Workdir(run_folder).exports.iterdir()} == {"1", "2"}
    assert json.loads((run_folder / "generator" / "2" / "assets" / "preset.json").read_text())["stage2_epochs"] == 4
    assert run._finished_export(Workdir(run_folder), LONGER).name == "2"


@pytest.mark.long
def test_outcome_does_not_depend_on_when_more_epochs_are_asked_for(finished, run_folder, tmp_path, monkeypatch):
    early = shutil.copytree(finished[0].parent / "aigan1_saved", tmp_path / "early")
    train_without_export(early, monkeypatch, extend=True)
    original = MetricsHistory.on_train_batch_begin

    def on_train_batch_begin(self, batch, logs=None):
        original(self, batch, logs)
        if self.model.steps_done == 13:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsHistory, "on_train_batch_begin", on_train_batch_begin)
        with pytest.raises(Terminated):
            run.train_and_export(LONGER, run_folder, extend=True)
    train_without_export(run_folder, monkeypatch)
    assert not differences(result_of(run_folder), result_of(early))


@pytest.mark.long
def test_kill_between_the_two_renames_loses_nothing(finished, run_folder):
    Workdir(run_folder)._set_aside(4)
    train(tiny(), run_folder)
    assert not differences(*(weights(folder / "generator.weights.h5") for folder in (finished[0], run_folder)))
    train(LONGER, run_folder, extend=True)
    assert (run_folder / "generator" / "2").exists()
