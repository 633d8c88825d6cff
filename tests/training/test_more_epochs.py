"""More epochs for a run that has begun or is finished."""

import json
import shutil
import signal

import pytest
from kill_and_resume import checkpoint, differences, weights
from tiny_runs import Stop, contents, metrics_rows, stop, tiny, train

from aigan_tf.engine.callbacks import MetricsHistory
from aigan_tf.errors import InputError, Terminated
from aigan_tf.training import run
from aigan_tf.workdir import Workdir

LONGER = tiny(stage2_epochs=4)  # six epochs instead of four, of three steps


def result_of(folder):
    """The weights and the last checkpoint of a run."""
    return weights(folder / "generator.weights.h5") | checkpoint(folder / "checkpoints" / "aigan" / "ckpt-18")


def test_outcome_is_the_same_whenever_more_epochs_were_asked_for_and_however_often_it_was_interrupted(
    finished, run_folder, tmp_path, monkeypatch
):
    before, original = contents(run_folder), MetricsHistory.on_train_batch_begin

    def on_train_batch_begin(self, batch, logs=None):
        original(self, batch, logs)
        if self.model.steps_done == 13:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsHistory, "on_train_batch_begin", on_train_batch_begin)
        with pytest.raises(Terminated):
            run.train_and_export(LONGER, run_folder, extend=True)
    for name in ("report.json", "generator/1/saved_model.pb", "generator_stage1.weights.h5", "samples/stage2.png"):
        assert (run_folder / name).read_bytes() == before[run_folder / name]  # those of the finished run stay in use
    assert not differences(*(weights(path) for path in (
        finished[0] / "generator.weights.h5", run_folder / "generator_4_epochs.weights.h5",
    )))  # fmt: skip
    with pytest.raises(InputError, match="stage2_epochs"):
        run.train_and_export(tiny(), run_folder, extend=True)
    train(LONGER, run_folder)

    early = shutil.copytree(finished[0].parent / "aigan1_saved", tmp_path / "early")
    monkeypatch.setattr(run, "export", stop)  # trained by then
    with pytest.raises(Stop):
        run.train_and_export(LONGER, early, extend=True)
    assert not differences(result_of(run_folder), result_of(early))
    assert differences(weights(early / "generator.weights.h5"), weights(finished[0] / "generator.weights.h5"))
    assert [row["stage"] for row in metrics_rows(run_folder)] == list("112222")
    assert json.loads((run_folder / "generator" / "2" / "assets" / "preset.json").read_text())["stage2_epochs"] == 4
    assert {path.name for path in Workdir(run_folder).exports.iterdir()} == {"1", "2"}
    assert run._finished_export(Workdir(run_folder), LONGER).name == "2"


@pytest.mark.long
def test_kill_between_the_two_renames_loses_nothing(finished, run_folder):
    Workdir(run_folder)._set_aside(4)
    train(tiny(), run_folder)
    assert not differences(*(weights(folder / "generator.weights.h5") for folder in (finished[0], run_folder)))
    train(LONGER, run_folder, extend=True)
    assert (run_folder / "generator" / "2").exists()
