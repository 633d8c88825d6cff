"""Who may use a work folder, and what in it is its run's."""

import json
import os
import subprocess
import sys

import pytest

from aigan_tf import files, workdir
from aigan_tf.errors import InputError
from aigan_tf.workdir import Workdir

SETTINGS = {"dataset": "digits", "epsilon": 0.3, "seed": 0}


def test_a_path_object_touches_nothing(tmp_path):
    Workdir(tmp_path / "run")
    assert not os.listdir(tmp_path)


def test_a_new_folder_is_claimed_with_config_json(tmp_path):
    folder = Workdir(tmp_path / "deep" / "run")
    assert folder.open(SETTINGS, {}, {}) is False
    config = json.loads(folder.config.read_text())
    assert {name: config[name] for name in SETTINGS} == SETTINGS
    assert set(config) == {*SETTINGS, "digests", "versions", "commit"}
    assert config["versions"]["tensorflow"].startswith("2.")
    assert os.listdir(folder.path) == ["config.json"]


def test_a_second_run_is_kept_out_while_the_first_lasts(tmp_path):
    folder = tmp_path / "run"
    with Workdir(folder).locked():
        Workdir(folder).open(SETTINGS, {}, {})
        with pytest.raises(InputError, match="in use by another run; expected one at a time"), Workdir(folder).locked():
            pass
    with Workdir(folder).locked():
        assert Workdir(folder).open(SETTINGS, {}, {}) is True


def test_a_dead_run_keeps_nobody_out(tmp_path):
    code = (
        "import sys; from aigan_tf.workdir import Workdir\n"
        "with Workdir(sys.argv[1]).locked(): print('in', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "in\n"
    with pytest.raises(InputError, match="in use"), Workdir(tmp_path / "run").locked():
        pass
    process.kill()
    process.wait()
    with Workdir(tmp_path / "run").locked():
        pass
    assert Workdir(tmp_path / "run").open(SETTINGS, {}, {}) is False  # the lock alone is no run


def test_a_run_killed_while_it_wrote_its_config_goes_on(tmp_path):
    folder = Workdir(tmp_path / "run")
    with folder.locked():
        (folder.path / ".4711.config.json").write_text('{"epsilon"')
    (folder.path / ".4711.config.json").write_text('{"epsilon"')
    assert not folder.check(SETTINGS, {})
    with folder.locked():
        assert folder.open(SETTINGS, {}, {}) is False
    assert {entry.name for entry in folder.path.iterdir()} == {".lock", "config.json"}


def test_what_a_killed_run_left_unfinished_is_removed_and_nothing_else(tmp_path):
    left = (
        ".4711.generator.weights.h5", ".4711.report.json", "samples/.4711.stage1.png", "generator/.1.abcd1234/saved_model.pb",
        "advgan/3/.4711.config.json", "advgan/3/samples/.4711.stage2.png", "ensemble/c/.4711.classifier.keras",
        "surrogate/.4711.answers.npz", "surrogate/checkpoints/classifier/ckpt-2_temp/part",
    )  # fmt: skip
    kept = (
        "generator.weights.h5", "generator/1/saved_model.pb", ".notes", ".git/.4711.index", "notes/.4711.txt",
        "evaluation/.4711.report.json", ".pictures.abcd1234/1.png", "transfer/resnet20/.4711.classifier.keras",
    )  # fmt: skip
    for name in (*left, *kept):
        files.write_bytes(tmp_path / name, b"")
    with Workdir(tmp_path).locked():
        assert not any((tmp_path / name).exists() for name in left)
        assert not (tmp_path / "generator" / ".1.abcd1234").exists()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {*kept, ".lock"}


def test_an_empty_folder_that_exists_is_taken(tmp_path):
    assert Workdir(tmp_path).open(SETTINGS, {}, {}) is False


def test_the_same_settings_continue(tmp_path):
    folder = Workdir(tmp_path / "run")
    folder.open(SETTINGS, {}, {})
    before = folder.config.read_bytes()
    (folder.path / "classifier.keras").write_text("precious")
    assert Workdir(tmp_path / "run").open(SETTINGS, {}, {}) is True
    assert folder.config.read_bytes() == before
    assert folder.classifier.read_text() == "precious"


@pytest.mark.parametrize(("name", "value"), [("epsilon", 0.1), ("dataset", "mnist"), ("new_setting", 1)])
def test_other_settings_are_refused_and_nothing_is_overwritten(name, value, tmp_path):
    folder = Workdir(tmp_path / "run")
    folder.open(SETTINGS, {}, {})
    before = folder.config.read_bytes()
    with pytest.raises(InputError) as caught:
        folder.open({**SETTINGS, name: value}, {"new_setting": None}, {})
    message = str(caught.value)
    assert str(folder.path) in message
    assert f"{name}={SETTINGS.get(name)!r}" in message
    assert repr(value) in message
    assert "another --workdir" in message
    assert "\n" not in message
    assert folder.config.read_bytes() == before
    assert os.listdir(folder.path) == ["config.json"]


def test_a_setting_younger_than_the_folder_was_at_its_default(tmp_path):
    folder = Workdir(tmp_path / "run")
    folder.open(SETTINGS, {}, {})
    assert folder.open({**SETTINGS, "new_setting": 1}, {"new_setting": 1}, {}) is True
    with pytest.raises(InputError, match="give --new_setting=1 or"):
        folder.open({**SETTINGS, "new_setting": 2}, {"new_setting": 1}, {})


def test_changed_files_behind_a_setting_are_another_run(tmp_path):
    data = tmp_path / "data" / "train"
    data.mkdir(parents=True)
    (data / "a.png").write_bytes(b"one")
    digests = {"dataset": workdir.digest_of(tmp_path / "data")}
    folder = Workdir(tmp_path / "run")
    folder.open(SETTINGS, {}, digests)
    assert folder.open(SETTINGS, {}, digests) is True
    for change in (lambda: (data / "a.png").write_bytes(b"two"), lambda: (data / "a.png").rename(data / "b.png")):
        change()
        changed = {"dataset": workdir.digest_of(tmp_path / "data")}
        assert changed != digests
        digests = changed
        with pytest.raises(InputError, match="--dataset=digits whose files have changed"):
            folder.open(SETTINGS, {}, changed)
    (data / "b.png").rename(data / "a.png")
    (data / "a.png").write_bytes(b"one")
    assert folder.open(SETTINGS, {}, {"dataset": workdir.digest_of(tmp_path / "data")}) is True
    assert workdir.digest_of(data / "a.png") != workdir.digest_of(data)


@pytest.mark.parametrize("name", [".4711.other.json", "4711.config.json", ".gitignore"])
def test_a_folder_with_a_foreign_file_alone_is_refused(name, tmp_path):
    (tmp_path / name).write_text("")
    with pytest.raises(InputError, match="is not empty and has no config"):
        Workdir(tmp_path).open(SETTINGS, {}, {})


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        Workdir(tmp_path).open(SETTINGS, {}, {})
    assert os.listdir(tmp_path) == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        Workdir(tmp_path / "run").open(SETTINGS, {}, {})
    assert (tmp_path / "run").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot be written") as caught:
        Workdir(tmp_path / "file" / "run").open(SETTINGS, {}, {})
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("text", ["{ not json", "[1, 2]", "\xff\xfe"])
def test_a_broken_config_is_refused_and_kept(text, tmp_path):
    folder = Workdir(tmp_path)
    folder.config.write_bytes(text.encode("latin-1"))
    for read in (folder.read_config, lambda: folder.open(SETTINGS, {}, {})):
        with pytest.raises(InputError, match=r"config\.json"):
            read()
    assert folder.config.read_bytes() == text.encode("latin-1")


def test_a_missing_config_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json.*train first"):
        Workdir(tmp_path).read_config()


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_a_config_that_is_no_json_object_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json .*expected.*restore it"):
        Workdir(tmp_path).read_config()


@pytest.mark.parametrize(
    ("name", "value", "saved"), [("switch_success", 1.0, "true"), ("seed", 0, "0.0"), ("flip", False, "0")]
)
def test_a_value_is_not_taken_for_one_of_another_type_that_python_holds_equal(name, value, saved, tmp_path):
    folder = Workdir(tmp_path / "run")
    folder.open({name: value}, {}, {})
    assert folder.check({name: value}, {})
    folder.config.write_text(f'{{"{name}": {saved}}}')
    with pytest.raises(InputError, match=rf"{name}={saved.capitalize()}, this one has {value}"):
        folder.check({name: value}, {})


def test_digests_that_are_none_are_refused(tmp_path):
    folder = Workdir(tmp_path / "run")
    folder.open(SETTINGS, {}, {})
    folder.config.write_text(json.dumps({**SETTINGS, "digests": 5}))
    with pytest.raises(InputError, match=r"digests=5; expected.*restore it"):
        folder.check(SETTINGS, {}, {"dataset": "0"})


def test_what_was_sealed_is_known_again(tmp_path):
    folder = Workdir(tmp_path)
    version = folder.exports / "1"
    files.write_bytes(version / "saved_model.pb", b"graph")
    files.write_bytes(folder.weights, b"weights")
    folder.verify(version)  # nothing is sealed: an earlier version's
    folder.seal(version, version)
    folder.seal(folder.weights, folder.weights)
    (version / "note.txt").write_text("what others add does not matter")
    folder.verify(version)
    folder.verify(folder.weights)
    folder.weights.write_bytes(b"weighty")
    folder.verify(version)
    with pytest.raises(InputError, match=r"generator\.weights\.h5 is not what train\.py wrote.*expected.*restore it"):
        folder.verify(folder.weights)
    folder.seal(folder.weights, folder.weights)  # written anew
    folder.verify(folder.weights)
    (version / "saved_model.pb").unlink()
    with pytest.raises(InputError, match=r"saved_model\.pb is not what train\.py wrote.*expected.*restore it"):
        folder.verify(version)
    for wrong in ("{", "5", "null", "true", '["generator"]'):
        folder.digests.write_text(wrong)
        with pytest.raises(InputError, match=r"digests\.json cannot be read; expected"):
            folder.verify(version)


def test_what_a_desktop_leaves_in_a_folder_of_pictures_changes_no_digest(tmp_path):
    files.write_bytes(tmp_path / "train" / "cat" / "1.png", b"cat")
    before = workdir.digest_of(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "train/desktop.ini"):
        files.write_bytes(tmp_path / name, b"left behind")
    assert workdir.digest_of(tmp_path) == before
    files.write_bytes(tmp_path / "train" / "cat" / "2.png", b"cat")
    assert workdir.digest_of(tmp_path) != before


@pytest.mark.parametrize("name", ["../other/x", "generator/../../x", "/etc/passwd"])
def test_digests_of_files_elsewhere_are_refused(name, tmp_path):
    folder = Workdir(tmp_path)
    files.write_bytes(folder.weights, b"weights")
    folder.digests.write_text(json.dumps({name: "0"}))
    for use, paths in ((folder.verify, [folder.weights]), (folder.seal, [folder.weights] * 2)):
        with pytest.raises(InputError, match=r"digests\.json cannot be read; expected"):
            use(*paths)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "\0"])
def test_a_digest_of_what_can_be_no_file_is_refused(name, tmp_path):
    folder = Workdir(tmp_path)
    files.write_bytes(folder.exports / "1" / "saved_model.pb", b"graph")
    folder.digests.write_text(json.dumps({f"generator/1/{name}": "0"}))
    with pytest.raises(InputError, match=r"is not what train\.py wrote.*expected.*restore it") as caught:
        folder.verify(folder.exports / "1")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    folder = Workdir(tmp_path)
    for path in (folder.config, folder.digests, folder.metrics):
        os.mkfifo(path)
    files.write_bytes(folder.weights, b"weights")
    for read in (folder.read_config, lambda: folder.verify(folder.weights), lambda: folder.training_cost(False)):
        with pytest.raises(InputError, match="cannot be read; expected"):
            read()


@pytest.mark.parametrize(
    "name", ["logs", "checkpoints", "samples", "generator", "advgan", "checkpoints/aigan", "logs/train"]
)
def test_a_file_in_the_place_of_a_folder_is_refused_before_training(name, tmp_path):
    folder = Workdir(tmp_path)
    folder.open(SETTINGS, {}, {})
    files.write_bytes(tmp_path / name, b"mine")
    with pytest.raises(InputError, match=f"{name} is no folder; expected one"):
        folder.check(SETTINGS, {})
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"one")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(InputError, match=r"a\.png cannot be read \(Permission denied\); expected"):
        workdir.digest_of(tmp_path)


@pytest.mark.parametrize(
    "text",
    [None, "", "epoch\n1\n", "seconds\nfast\n", "seconds\nnan\n", "seconds\n-1\n", "seconds\n1\n", "\0", b"\xff"],
)
def test_a_history_that_does_not_tell_the_cost_is_refused(text, tmp_path):
    folder = Workdir(tmp_path)
    if text is not None:
        folder.metrics.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=r"metrics\.csv .*expected.*restore"):
        folder.training_cost(black_box=True)


def test_the_cost_of_training(tmp_path):
    folder = Workdir(tmp_path)
    folder.metrics.write_text("seconds,queries\n1.5,10\n2,30\n")
    assert folder.training_cost(black_box=True) == (3.5, 30)
    assert folder.training_cost(black_box=False) == (3.5, 0)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"device": 1}', '{"device": "a\\nb"}', 10**5 * "[", b"\xff"])
def test_where_training_took_place_is_not_said_where_the_report_does_not(text, tmp_path):
    folder = Workdir(tmp_path)
    if text is not None:
        folder.report.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert folder.training_device() is None
    folder.report.write_text('{"device": "CPU, 2 cores"}')
    assert folder.training_device() == "CPU, 2 cores"


@pytest.mark.parametrize("path", ["a\0b", 5000 * "x", "loop/run"])
def test_what_the_system_takes_for_no_path_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=r"cannot be used .*; expected a path: correct it"):
        Workdir(path)
