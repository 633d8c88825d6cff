"""The package's networks under whatever a notebook or keras.json set for Keras."""

import keras
import numpy as np
import pytest
from tiny_runs import different_end, tiny, train

import aigan_tf
from aigan_tf.classifiers import architectures
from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.optimizers import CosineDecay
from aigan_tf.evaluation.compare import evaluate_workdir
from aigan_tf.method.networks import Discriminator, Generator


def current():
    return keras.config.floatx(), keras.config.image_data_format(), keras.config.dtype_policy().name


@pytest.fixture(params=["float64", "float16", "mixed_float16", "mixed_bfloat16", "channels_first"])
def foreign_state(request):
    with own_keras_state():
        if request.param == "channels_first":
            keras.config.set_image_data_format(request.param)
        else:
            keras.config.set_dtype_policy(request.param)
            if not request.param.startswith("mixed"):
                keras.config.set_floatx(request.param)
        yield


@pytest.fixture
def all_foreign():
    with own_keras_state():
        keras.config.set_floatx("float64")
        keras.config.set_image_data_format("channels_first")
        keras.config.set_dtype_policy("mixed_float16")
        yield


def networks():
    keras.utils.set_random_seed(0)
    built = [Generator(5, 3, width=4, num_blocks=1, class_maps=2, budget_input=True), Discriminator(3, width=4)]
    return [*built, *(architectures.build(name, (32, 32, 3), 5) for name in ("small", "c", "resnet20"))]


@pytest.fixture(scope="module")
def plain_networks():
    return networks()


def answers(built):
    images = np.random.default_rng(0).uniform(0, 1, (2, 32, 32, 3)).astype(np.float32)
    generator, *others = built
    return [generator(images, np.array([0, 4]), np.float32([0.5, 1.0])), *(network(images) for network in others)]


def test_networks_have_the_same_weights_and_answers_under_a_foreign_state(foreign_state, plain_networks):
    before = current()
    built = networks()
    assert current() == before
    for network, plain in zip(built, plain_networks, strict=True):
        for own, expected in zip(network.get_weights(), plain.get_weights(), strict=True):
            np.testing.assert_array_equal(own, expected, strict=True)
    for own, expected in zip(answers(built), answers(plain_networks), strict=True):
        np.testing.assert_array_equal(own, expected, strict=True)


def test_the_callers_state_comes_back_after_an_error(all_foreign):
    before = current()

    @own_keras_state()
    def failing():
        assert current() == ("float32", "channels_last", "float32")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert current() == before


def test_a_schedule_counts_beyond_the_whole_numbers_of_float16(foreign_state):
    schedule = CosineDecay(1e-2, 10_000)
    assert schedule(5_000).dtype == "float32"
    assert float(schedule(5_001)) < float(schedule(5_000)) == pytest.approx(5e-3)


@pytest.mark.long
def test_a_run_is_the_same_under_a_foreign_state(all_foreign, finished, tmp_path):
    train(tiny(), tmp_path / "run")
    assert not different_end(finished[0], tmp_path / "run")
    result = evaluate_workdir(finished[0], attacks=("aigan",), num_examples=20, output=str(tmp_path / "report"))
    assert result["attacks"]["aigan"]["num_attacks"] > 100


def test_a_classifier_of_the_users_own_keeps_its_policy(all_foreign, digit_classifier, batch):
    classifier = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    classifier.set_weights(digit_classifier.get_weights())
    made = aigan_tf.fit_generator(classifier, *batch, stage1_epochs=0, stage2_epochs=1, steps_per_epoch=1, batch_size=8)
    assert classifier.layers[-1].dtype_policy.name == "mixed_float16"
    assert made(batch[0], 3).dtype == np.float32
