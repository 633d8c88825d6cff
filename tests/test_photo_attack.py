"""The attack command, and pictures of any size from Python."""

import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import run_in_process
from PIL import Image
from served_example import EPSILON, NAMES, SHAPE, classifier, make_generator

import aigan_tf
from aigan_tf import attack_plan, cli
from aigan_tf.data import pictures
from aigan_tf.errors import InputError
from aigan_tf.exported import read_export_info
from aigan_tf.photo_attack import PictureAttacker
from aigan_tf.serving.export import ServedGenerator, export_generator

ROOT = pathlib.Path(__file__).parents[1]
SHIPPED = ROOT / "pretrained" / "cifar10"


def export(folder, is_targeted, classifier):
    """Exports a generator of 9 x 13 colour pictures; two of its classes have the same letters."""
    names = ("cat", "a dog", "a/dog", *NAMES[3:])
    served = ServedGenerator(make_generator(), SHAPE, names, EPSILON, is_targeted, classifier=classifier)
    attack = "targeted" if is_targeted else "untargeted"
    preset = {"epsilon": EPSILON, "attack": attack, "variable_epsilon": False, "image_shape": SHAPE}
    return str(export_generator(folder, served, preset))


@pytest.fixture(scope="module")
def targeted(tmp_path_factory):
    return export(tmp_path_factory.mktemp("targeted"), True, classifier)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with pictures of two sizes: photo.jpg, photo.png, more/fits.png."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save("photo.jpg")
    Image.fromarray(pixels).convert("RGBA").save("photo.png")
    (tmp_path / "more").mkdir()
    Image.fromarray(pixels[: SHAPE[0], : SHAPE[1]]).save("more/fits.png")
    (tmp_path / "more" / "notes.txt").write_text("not a picture")
    return tmp_path


def attack(*arguments):
    return run_in_process(cli.attack, *map(str, arguments))


def pixels_of(path):
    return np.asarray(Image.open(path)).astype(int)


def test_a_photograph_becomes_the_target_and_the_written_png_has_the_printed_answers(folder, capsys):
    strip = Image.open(SHIPPED / "samples" / "test_images.png")
    bird = strip.crop((64, 0, 96, 32)).resize((320, 320), Image.Resampling.NEAREST)
    photo = Image.new("RGB", (320, 480), "red")  # what is red is cropped
    photo.paste(bird, (0, 80))
    photo.save("bird.png")
    assert attack("bird.png", "--target=cat") == 0
    printed = capsys.readouterr().out
    written = pixels_of("bird_cat.png")
    clean, _ = pictures.fitted("bird.png", (32, 32, 3))
    assert np.abs(clean.astype(int) - np.asarray(bird.resize((32, 32)))).max() < 40  # the centre, without the red
    change = np.abs(written - clean)
    assert 0 < change.max() <= 8
    logits = keras.models.load_model(SHIPPED / "classifier.keras")(written[np.newaxis].astype(np.float32) / 255)
    answers = np.asarray(tf.nn.softmax(logits))[0]
    assert answers.argmax() == 3
    assert re.search(rf"bird \([\d.]+ %\) becomes cat \({100 * answers[3]:.1f} %\)", printed)
    assert f"{change.max()}/255" in printed
    assert "320 x 480" in printed
    assert Image.open("bird_cat_figure.png").size[1] > 300  # three rows


def test_several_pictures_and_targets_get_a_folder(targeted, folder, capsys):
    assert attack("photo.jpg", "photo.png", "more", "--target=all", f"--generator={targeted}") == 0
    written = {path.name for path in (folder / "adversarial").iterdir()}
    assert len(written) == 3 * (5 + 1)
    assert {"photo_cat.png", "photo_2_cat.png", "fits_tree.png", "fits_figure.png"} <= written
    change = np.abs(pixels_of("adversarial/fits_cat.png") - pixels_of("more/fits.png"))
    assert 0 < change.max() <= 8
    assert (pixels_of("adversarial/fits_cat.png") != pixels_of("adversarial/fits_tree.png")).any()
    assert re.search(r"^\d+ of \d+ attacks succeed", capsys.readouterr().out, re.MULTILINE)


def test_nothing_is_replaced(targeted, folder):
    plan = attack_plan.make_plan(["photo.jpg"], targeted, "0")
    assert (plan.out.name, plan.figure.name) == ("photo_cat.png", "photo_cat_figure.png")
    plan.figure.write_bytes(b"the user's")
    assert attack_plan.make_plan(["photo.jpg"], targeted, "0").out.name == "photo_cat_2.png"
    for given, place in (
        (["photo.jpg"], "photo.png"),
        (["photo.jpg"], "photo_cat.png"),
        (["more", "photo.jpg"], "more"),
    ):
        with pytest.raises(InputError) as caught:
            attack_plan.make_plan(given, targeted, "cat", out=place)
        assert caught.value.setting == "out"


@pytest.mark.long  # exports and loads another generator
def test_an_untargeted_generator_takes_the_label_or_the_answer(folder, capsys, monkeypatch):
    generator = f"--generator={export(folder / 'untargeted', False, None)}"
    assert attack("photo.jpg", generator) == 2
    assert "--label" in capsys.readouterr().err
    assert attack("photo.jpg", generator, "--label=cat", "--out=labelled.png") == 0
    assert "not known" in capsys.readouterr().out
    monkeypatch.setattr(PictureAttacker, "_find_classifier", lambda *_: classifier)
    attacker = PictureAttacker(read_export_info(folder / "untargeted", "generator"))
    (by_answer,) = attacker(attack_plan.make_plan(["photo.jpg"], str(folder / "untargeted")).pixels, None)
    logits = classifier(by_answer.clean[np.newaxis].astype(np.float32) / 255)
    assert by_answer.target == np.argmax(logits)
    (by_label,) = attacker(by_answer.clean[None], [by_answer.target])
    (by_other,) = attacker(by_answer.clean[None], [(by_answer.target + 1) % 5])
    assert (by_answer.adversarial == by_label.adversarial).all()
    assert (by_answer.adversarial != by_other.adversarial).any()


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        (None, dict(given=[], target="cat")),
        (None, dict(given=["none.jpg"], target="cat")),
        (None, dict(given=["more/notes.txt"], target="cat")),
        (None, dict(given=["."], target="cat", generator="export")),
        (None, dict(given=["photo.jpg"])),
        ("target", dict(given=["photo.jpg"], target="caat")),
        ("target", dict(given=["photo.jpg"], target="10")),
        ("label", dict(given=["photo.jpg"], label="cat")),
        ("epsilon", dict(given=["photo.jpg"], target="cat", epsilon=0.01)),
        ("generator", dict(given=["photo.jpg"], target="cat", generator="more")),
        ("out", dict(given=["photo.jpg"], target="cat", out="adv.jpg")),
        ("out", dict(given=["photo.jpg"], target="cat", out="adv")),
        ("out", dict(given=["photo.jpg"], target="all", out="adv.png")),
    ],
)
def test_what_does_not_fit_is_refused(setting, given, folder):
    (folder / "broken.png").write_bytes((folder / "photo.png").read_bytes()[:500])
    given["generator"] = str(SHIPPED) if given.get("generator") == "export" else given.get("generator")
    with pytest.raises(InputError) as caught:
        attack_plan.make_plan(**given)
    assert caught.value.setting == setting
    assert str(caught.value).isprintable()


def test_an_installed_package_has_no_generator_of_its_own(folder, monkeypatch):
    monkeypatch.setattr(attack_plan, "SHIPPED", folder / "nowhere")
    with pytest.raises(InputError, match="pretrained/"):
        attack_plan.make_plan(["photo.jpg"], target="cat")


def test_python_takes_a_picture_of_any_size_but_arrays_only_of_its_own(targeted, folder):
    generator = aigan_tf.load_generator(targeted)
    attacked = aigan_tf.attack(generator, "photo.jpg", "tree")
    assert attacked.shape == SHAPE
    assert attack("photo.jpg", "--target=tree", f"--generator={targeted}") == 0
    np.testing.assert_allclose(attacked * 255, pixels_of("photo_tree.png"), atol=1)
    np.testing.assert_array_equal(aigan_tf.attack(generator, Image.open("photo.jpg"), "tree"), attacked)
    with pytest.raises(InputError):
        aigan_tf.attack(generator, np.asarray(Image.open("photo.jpg")), "tree")
    with pytest.raises(InputError):
        aigan_tf.attack(generator, "none.jpg", "tree")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_every_kind_of_picture_fits_grey_and_colour(mode, tmp_path):
    if mode == "I;16":
        picture = Image.fromarray(np.full((40, 60), 128 * 256, np.uint16))
    else:
        picture = Image.new("L", (60, 40), 128).convert(mode)
    picture.save(tmp_path / "picture.tif")
    for shape in ((8, 9, 1), (9, 8, 3)):
        pixels, changes = pictures.fitted(tmp_path / "picture.tif", shape)
        assert pixels.shape == shape
        assert pixels.dtype == np.uint8
        assert "60 x 40" in changes
        if mode != "1":
            assert abs(int(pixels.mean()) - 128) <= 1
