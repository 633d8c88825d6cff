"""Settings: the presets, and that a value that cannot be used is refused in one line."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aigan_tf.config import PRESETS, Config, make_config
from aigan_tf.errors import InputError


def test_presets_are_the_defaults_of_their_data_sets():
    digits = make_config()
    assert (digits.dataset, digits.classifier, digits.epsilon) == ("digits", "small", 0.3)
    assert make_config(dataset="mnist").epsilon == 0.3
    assert make_config(dataset="mnist").classifier == "C"
    for name in ("cifar10", "cifar100"):
        config = make_config(dataset=name)
        assert config.epsilon == pytest.approx(8 / 255)  # never that of MNIST
        assert config.flip
    assert not digits.flip  # a mirrored digit is another one
    assert not make_config(dataset="mnist").flip
    unknown = make_config(dataset="some/folder")
    assert unknown == Config(dataset="some/folder")
    assert unknown.epsilon == pytest.approx(8 / 255)


def test_settings_go_before_the_preset():
    config = make_config(dataset="mnist", epsilon=0.1, stage2_epochs=3)
    assert (config.epsilon, config.stage2_epochs) == (0.1, 3)
    assert config.classifier == "C"


def test_every_preset_can_be_used_and_names_only_settings():
    names = {field.name for field in dataclasses.fields(Config)}
    for dataset, preset in PRESETS.items():
        assert set(preset) <= names
        config = make_config(dataset=dataset)
        assert config.epochs >= 1
        for name, value in preset.items():
            assert getattr(config, name) == value


def test_a_setting_has_a_help_text_and_a_default_of_its_type():
    for field in dataclasses.fields(Config):
        assert field.metadata["help"]
        assert type(field.default) is field.type


def test_what_follows_from_the_settings():
    config = make_config(epsilon=0.2, attack_step_size=0.0, input_range="-1,1", image_size="32,48", attack="untargeted")
    assert config.step_size == pytest.approx(0.05)
    assert make_config(attack_step_size=0.01).step_size == 0.01
    assert config.input_range == (-1.0, 1.0)
    assert config.image_size == (32, 48)
    assert make_config().size is None
    assert not config.targeted
    assert make_config().targeted
    # The largest L2 norm of a perturbation within epsilon is epsilon * sqrt(number of values).
    assert config.hinge_limit((4, 5, 5)) == pytest.approx(0.5 * 0.2 * 10)
    assert make_config(hinge_threshold=1.5).hinge_limit((4, 5, 5)) == 1.5
    assert make_config(stage1_epochs=3, stage2_epochs=4).epochs == 7


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_config().epsilon = 0.5


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epsilon", 0.0, ["at most 1", "8/255"]),
        ("epsilon", -1.0, ["above 0"]),
        ("epsilon", 8.0, ["at most 1", "8/255"]),  # 8 grey levels, as a fraction
        ("epsilon", 1.0001, ["at most 1"]),
        ("epsilon", math.nan, ["finite"]),
        ("epsilon", math.inf, ["finite"]),
        ("attack", "Targeted", ["targeted or untargeted"]),
        ("switch", "", ["auto or fixed"]),
        ("optimizer", "sgd", ["muon or adam"]),
        ("bound", "clip", ["projection or tanh"]),
        ("switch_success", 0.0, ["above 0"]),
        ("switch_success", 1.1, ["at most 1"]),
        ("stage1_epochs", -1, ["0 or more"]),
        ("stage2_epochs", -3, ["0 or more"]),
        ("gan_weight", -0.1, ["0 or more"]),
        ("hinge_weight", -0.1, ["0 or more"]),
        ("hinge_threshold", -0.1, ["0 or more"]),
        ("hinge_threshold", math.nan, ["finite"]),
        ("attack_step_size", -0.1, ["0 or more"]),
        ("learning_rate", 0.0, ["above 0"]),
        ("discriminator_learning_rate", -1e-3, ["above 0"]),
        ("attack_steps", 0, ["1 or more"]),
        ("batch_size", 0, ["1 or more"]),
        ("generator_width", 0, ["1 or more"]),
        ("generator_blocks", -1, ["0 or more"]),
        ("steps_per_epoch", -1, ["0 or more"]),
        ("classifier_epochs", -1, ["0 or more"]),
        ("seed", -1, ["0 or more"]),
        ("seed", 2**31, ["at most 2147483647"]),
        ("image_size", "32", ["HEIGHT,WIDTH"]),
        ("image_size", "32x32", ["HEIGHT,WIDTH"]),
        ("image_size", "0,32", ["HEIGHT,WIDTH"]),
        ("image_size", "32,32,3", ["HEIGHT,WIDTH"]),
        ("image_size", "-8,8", ["HEIGHT,WIDTH"]),
        ("input_range", "255", ["LOW,HIGH"]),
        ("input_range", "255,0", ["LOW below HIGH"]),
        ("input_range", "1,1", ["LOW below HIGH"]),
        ("input_range", "a,b", ["LOW,HIGH"]),
        ("input_range", "0,inf", ["LOW,HIGH"]),
        ("input_range", "nan,1", ["LOW,HIGH"]),
        ("input_range", "", ["LOW,HIGH"]),
        ("image_size", "1\uff16,16", ["HEIGHT,WIDTH"]),  # a digit, but not one of ASCII
        ("dataset", " ", ["a name or a path"]),
        ("classifier", "", ["a name or a path"]),
        ("gan_weight", 10**400, ["finite"]),
        ("stage1_epochs", 2**31, ["at most 2147483647", "smaller"]),
        ("generator_width", 1025, ["at most 1024", "smaller"]),
        ("generator_blocks", 101, ["at most 100", "smaller"]),
        ("class_maps", -1, ["0 or more"]),
        ("class_maps", 65, ["at most 64", "smaller"]),
        ("discriminator_width", 0, ["1 or more"]),
        ("discriminator_width", 1025, ["at most 1024", "smaller"]),
        # Of another type, as a config.json may hold them.
        ("flip", 1, ["true or false"]),
        ("flip", "yes", ["true or false"]),
        ("seed", True, ["a whole number"]),
        ("batch_size", 64.0, ["a whole number"]),
        ("epsilon", "0.1", ["a number"]),
        ("epsilon", True, ["a number"]),
        ("dataset", 5, ["a text"]),
        ("image_size", [8, 8], ["a text"]),
        ("class_names", None, ["a text"]),
    ],
)
def test_a_bad_value_is_named_with_what_is_expected_and_a_fix(name, value, words):
    with pytest.raises(InputError) as caught:
        make_config(**{name: value})
    message = str(caught.value)
    assert "\n" not in message
    received, _, rest = message.partition(": expected ")
    assert received == f"--{name}={value}"
    expected, _, fix = rest.partition("; ")
    assert expected
    assert fix
    for word in words:
        assert word in rest


def test_a_version_of_a_data_set_has_its_preset():
    assert make_config(dataset="mnist:3.0.1").epsilon == make_config(dataset="mnist").epsilon == 0.3


def test_less_than_a_grey_level_is_refused():
    assert make_config(epsilon=1 / 255).epsilon == 1 / 255
    with pytest.raises(InputError, match="at least 1/255"):
        make_config(epsilon=0.003)


def test_numbers_that_were_computed_are_taken():
    config = make_config(epsilon=np.float32(0.25), batch_size=np.int64(32), gan_weight=1)
    # As the command line has them, so that either continues the other's run.
    assert (config.epsilon, config.batch_size, config.gan_weight) == (0.25, 32, 1.0)
    assert all(type(getattr(config, field.name)) is field.type for field in dataclasses.fields(Config))


def test_no_epoch_at_all_is_refused():
    with pytest.raises(InputError, match=r"--stage1_epochs=0 --stage2_epochs=0: expected at least one epoch.*; raise"):
        make_config(stage1_epochs=0, stage2_epochs=0)
    assert make_config(stage1_epochs=0, stage2_epochs=1).epochs == 1
    assert make_config(stage1_epochs=1, stage2_epochs=0).epochs == 1


ANY = {
    bool: st.booleans(),
    int: st.integers(-3, 3) | st.integers(),
    float: st.floats(0, 1) | st.floats(),
    str: st.sampled_from(["", "digits", "targeted", "untargeted", "auto", "fixed", "8,9", "0,255", "-1,1"]) | st.text(),
}
FIELDS = {field.name: ANY[field.type] for field in dataclasses.fields(Config)}


# However slow the machine: what is asked is which values are refused.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_any_values_give_a_usable_config_or_an_input_error(values):
    try:
        config = make_config(**values)
    except InputError:
        return
    assert 0 < config.epsilon <= 1
    assert config.epochs >= 1
    assert config.batch_size >= 1
    assert 0 <= config.seed < 2**31
    assert config.step_size > 0
    low, high = config.input_range
    assert low < high
    assert math.isfinite(high - low)
    assert config.image_size is None or min(config.image_size) >= 1
    assert config.hinge_limit((8, 8, 1)) > 0
    assert isinstance(config.targeted, bool)
