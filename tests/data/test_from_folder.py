"""Data sets from folders of pictures."""

import io
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from aigan_tf.data import datasets, from_folder, splits
from aigan_tf.errors import InputError
from aigan_tf.files import write_bytes
from aigan_tf.workdir import digest_of


def assert_holds(dataset, root, files=None):
    """Each image is that of its file and has the class of its folder; none is missing."""
    parts = (dataset.train, dataset.validation, dataset.test)
    files = files or [path.relative_to(root).as_posix() for path in root.rglob("*.png")]
    assert sorted(file for split in parts for file in split.files) == sorted(files)
    for split in parts:
        for image, label, file in zip(np.asarray(split.images), split.labels, split.files, strict=True):
            pixels = tf.io.decode_png((root / file).read_bytes(), channels=dataset.image_shape[-1])
            np.testing.assert_array_equal(image, pixels)
            assert dataset.class_names[label] in file.split("/")


@pytest.mark.parametrize("shape", [(9, 13, 1), (9, 13, 3), (8, 8, 3), (9, 13, 4)])
def test_a_folder_is_loaded_whole_without_its_alpha_channel(shape, write_folder, tmp_path, no_network):
    write_folder(tmp_path, shape)
    dataset = datasets.load(str(tmp_path))
    assert dataset.image_shape == (*shape[:2], min(shape[2], 3))
    assert dataset.class_names == ("cat", "dog")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (7, 1, 4)
    assert_holds(dataset, tmp_path)
    assert {file[:5] for file in dataset.test.files} == {"test/"}
    # The test images are not sorted by class, and in the same order each time.
    assert dataset.test.labels.tolist() not in ([0, 0, 1, 1], [1, 1, 0, 0])
    np.testing.assert_array_equal(datasets.load(str(tmp_path)).test.images, dataset.test.images)
    assert not no_network


@pytest.mark.parametrize("grey", [("train/cat/0.png", "test/dog/1.png"), ("train/cat/2.png",), ("test/",)])
@pytest.mark.parametrize("room", [splits.MAX_IN_MEMORY, 0])
def test_grey_images_become_colour(room, grey, write_folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(splits, "MAX_IN_MEMORY", room)
    files = write_folder(tmp_path, grey=grey)
    assert_holds(datasets.load(str(tmp_path)), tmp_path)
    (record,) = caplog.records
    assert f"{sum(file.startswith(grey) for file in files)} of 12" in record.getMessage()


@pytest.mark.parametrize(
    ("moves", "sizes"),
    [
        ({"test": "val"}, (7, 1, 4)),
        ({"train": "Training", "test": "Testing", "../more/train": "valid"}, (8, 8, 4)),
        ({"train/cat": "cat", "train/dog": "dog", "train": None, "test": None}, (6, 1, 1)),
        ({"test": None}, (6, 1, 1)),
        ({"train": "outer/inner/train", "test": "outer/inner/test"}, (7, 1, 4)),
        ({"train/cat": "cats", "cats": "train/cat/a/b"}, (7, 1, 4)),
    ],
)
def test_common_layouts_are_read_whole(moves, sizes, write_folder, tmp_path):
    root = tmp_path / "data"
    for folder in (root, tmp_path / "more"):
        write_folder(folder)
    for old, new in moves.items():
        if new is not None:
            shutil.copytree(root / old, root / new)
        shutil.rmtree(root / old)
    dataset, again = datasets.load(str(root)), datasets.load(str(root))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == sizes
    assert dataset.class_names == ("cat", "dog")
    assert_holds(dataset, root)
    np.testing.assert_array_equal(again.test.files, dataset.test.files)


def test_hidden_files_are_skipped_without_a_word_and_others_with_a_warning(write_folder, tmp_path, caplog):
    files = write_folder(tmp_path)
    left = (
        ".ipynb_checkpoints/x.png", "__MACOSX/train/x.png", "train/.ipynb_checkpoints/x.png", "test/__MACOSX/x.png",
        "train/cat/._0.png", "train/cat/.ipynb_checkpoints/0.png", "train/dog/Thumbs.db", "test/dog/@eaDir/0.png/x.jpg",
    )  # fmt: skip
    for file in left:
        write_bytes(tmp_path / file, b"no picture")
    assert_holds(datasets.load(str(tmp_path)), tmp_path, files)
    assert not caplog.records
    write_bytes(tmp_path / "train/cat/5.heic", b"")
    write_bytes(tmp_path / "train/loose.png", b"")  # of no class
    datasets.load(str(tmp_path))
    (record,) = caplog.records
    assert "skipped 2" in record.getMessage()


def test_links_are_followed_and_their_content_is_part_of_the_digest(write_folder, tmp_path):
    write_folder(tmp_path / "elsewhere")
    (tmp_path / "data" / "test").mkdir(parents=True)
    (tmp_path / "data" / "train").symlink_to(tmp_path / "elsewhere" / "train")
    for name in ("cat", "dog"):
        (tmp_path / "data" / "test" / name).symlink_to(tmp_path / "elsewhere" / "test" / name)
    assert len(datasets.load(str(tmp_path / "data")).test) == 4
    before = digest_of(tmp_path / "data")
    assert before == digest_of(tmp_path / "elsewhere")
    for file in ("train/dog/0.png", "test/cat/1.png"):
        (tmp_path / "elsewhere" / file).unlink()
        before, last = digest_of(tmp_path / "data"), before
        assert before != last


PIXELS = np.random.default_rng(0).integers(0, 256, (9, 13, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.ppm", "RGB", {}), ("a.pgm", "L", {}), ("a.webp", "RGB", {"lossless": True}), ("a.BMP", "RGB", {}),
        ("a.gif", "P", {}), ("a.tif", "RGB", {}), ("a.tiff", "RGBA", {}), ("a.png", "LA", {}), ("a.png", "P", {}),
        ("a.png", "1", {}), ("a.png", "I;16", {}), ("a.jpg", "L", {"exif": b"Exif\0\0damaged!"}),
    ],
)  # fmt: skip
def test_every_format_gives_its_pixels(name, mode, options, tmp_path):
    picture = Image.fromarray(PIXELS)
    picture = picture.quantize(200) if mode == "P" else picture.convert("L" if mode == "I;16" else mode)
    expected = np.asarray(picture.convert("RGB"))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture).astype(np.uint16) * 256 + 99)
    picture.save(tmp_path / name, **options)
    image = from_folder._read_image(tmp_path / name, None)
    assert image.shape[-1] == (1 if mode in ("L", "LA", "1", "I;16") else 3)
    assert np.abs(image.astype(int) - expected).max() <= (99 if name == "a.jpg" else 0)


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.jpg", {"quality": 100, "subsampling": 0})])
def test_a_photograph_taken_sideways_stands_upright(name, options, tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: the first row of the file is the right side of the picture
    Image.fromarray(PIXELS).save(tmp_path / name, exif=exif, **options)
    image = from_folder._read_image(tmp_path / name, None)
    assert np.abs(image.astype(int) - np.rot90(PIXELS, -1)).max() <= (0 if name == "a.png" else 12)


BIG = tf.io.encode_png(np.zeros((20, 30, 3), np.uint8)).numpy()


@pytest.mark.parametrize("places", ["train/dog/0.png", "test/*/*.png"])
def test_images_of_different_sizes_need_image_size(places, write_folder, tmp_path):
    write_folder(tmp_path)
    for file in tmp_path.glob(places):
        file.write_bytes(BIG)
    with pytest.raises(InputError, match="20 x 30"):
        datasets.load(str(tmp_path))
    assert datasets.load(str(tmp_path), image_size=(16, 10)).image_shape == (16, 10, 3)


def add_image(content):  # bytes, or the format to save a picture in
    if isinstance(content, str):
        Image.fromarray(PIXELS).save(file := io.BytesIO(), content)
        content = file.getvalue()
    return lambda root: (root / "train" / "dog" / "bad.png").write_bytes(content)


def huge_picture():
    """A GIF file of less than 1 KB that says it has 144 million pixels."""
    Image.new("P", (1, 1)).save(file := io.BytesIO(), "GIF")
    return file.getvalue()[:6] + 2 * (12_000).to_bytes(2, "little") + file.getvalue()[10:]


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda root: shutil.rmtree(root / "train"), "test/"),
        (lambda root: (root / "test" / "bird").mkdir(), "'bird'"),
        (lambda root: [(root / split / "empty" / ".x").mkdir(parents=True) for split in ("train", "test")], "empty"),
        (add_image("SGI"), "bad.png"),  # no reader but those of the named formats is started
        (add_image(b"\x89PNG\r\n\x1a\n cut off"), "bad.png"),
        (add_image(huge_picture()), "pixels"),  # not decoded
        (lambda root: os.truncate(root / "train" / "dog" / "0.png", 2**31), "MiB"),  # not read
        (lambda root: os.mkfifo(root / "train" / "cat" / "x.png"), "x.png"),  # reading it would block forever
    ],
)
def test_an_unusable_folder_is_refused(damage, word, write_folder, tmp_path):
    write_folder(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as error:
        datasets.load(str(tmp_path))
    assert word in str(error.value)
