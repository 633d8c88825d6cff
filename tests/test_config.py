"""Settings: presets, and that a value that cannot be used is refused under its name."""

import dataclasses
import math
import typing
from fractions import Fraction

import numpy as np
import pytest

from aigan_tf.config import FITTED, MAX_INT, PRESETS, Config, kind_of, make_config, refuse_idle_settings
from aigan_tf.errors import InputError

FIELDS = dataclasses.fields(Config)


@pytest.mark.parametrize("dataset", PRESETS)
def test_presets_are_the_defaults_of_their_data_sets(dataset):
    config = make_config(dataset=dataset)
    refuse_idle_settings(config)
    assert {name: getattr(config, name) for name in PRESETS[dataset]} == PRESETS[dataset]
    assert config.epsilon == {"cifar10": 8 / 255, "cifar100": 8 / 255, "fashion_mnist": 0.1}.get(dataset, 0.3)
    assert config.flip == ("cifar" in dataset)  # a mirrored digit is another one
    assert make_config(dataset="some/folder") == Config(dataset="some/folder")
    changed = dict(dataset=f"{dataset}:3.0.1", epsilon=0.1)
    assert make_config(**changed) == dataclasses.replace(config, **changed)


def test_derived_values_follow_from_the_settings():
    config = make_config(epsilon=0.2, stage1_epochs=3, stage2_epochs=4, attack="untargeted")
    assert config.step_size == pytest.approx(0.05)  # epsilon / 4
    assert make_config(attack_step_size=0.01).step_size == 0.01
    assert (config.targeted, make_config().targeted) == (False, True)
    assert config.epochs == 7
    # The largest L2 norm of a perturbation within epsilon is epsilon * sqrt(number of values).
    assert config.hinge_limit((4, 5, 5)) == pytest.approx(0.5 * 0.2 * 10)
    assert make_config(hinge_threshold=1.5).hinge_limit((4, 5, 5)) == 1.5
    assert make_config(hinge_threshold=0).hinge_limit((4, 5, 5)) == 0


def test_what_the_images_decide_is_chosen_unless_given():
    def chosen(*shape, num_images=1000, **given):
        config = make_config(dataset="some/folder", **given).fitted((*shape, 3), num_images)
        return tuple(getattr(config, name) for name in FITTED)

    assert chosen(64, 30) == (16, 1, pytest.approx(0.035 / (8 / 255 * math.sqrt(64 * 30 * 3))), 64, 7e-3)
    assert chosen(65, 10)[:2] == (32, 2)
    assert [chosen(8, side)[1] for side in (64, 128, 129, 160, 256, 257, 4000)] == [1, 2, 4, 4, 4, 8, 16]
    assert chosen(160, 160)[3:] == (16, 2e-3)
    assert chosen(32, 32, num_images=5)[3] == 5
    given = dict(zip(FITTED, (3, 5, 0.0, 7, 0.5), strict=True))
    assert chosen(160, 160, **given) == tuple(given.values())
    assert make_config(epsilon=0.3).fitted((8, 8, 1), 100) == make_config(epsilon=0.3)  # the digits' preset says all


def test_steps_of_the_attacker_go_half_as_far_again_as_epsilon():
    own = dict(dataset="some/folder", epsilon=0.2)
    assert [make_config(**own, attack_steps=steps).step_size for steps in (1, 3, 6, 10)] == pytest.approx(
        [0.3, 0.1, 0.05, 0.05]
    )


def beyond_bounds():
    """Pairs of a setting and a value just outside what its field declares."""
    for field in FIELDS:
        setting, kind = field.metadata["setting"], kind_of(field)
        numbers = typing.get_args(kind) or (kind,)
        values = [None] if setting.if_none is None else []
        if setting.choices:
            values += ["nonsense", setting.choices[0].upper()]
        if numbers[0] in (int, float):
            low = setting.low if setting.above is None else setting.above + 1
            values += [] if low is None else [low - 1]
            values += [] if setting.high is None else [setting.high + 1]
            values += [math.nan, math.inf, 10**400] if numbers[0] is float else [MAX_INT + 1, 1.0]
            values += [True, "1"]
        if len(numbers) > 1:
            counts = [(), "8,8", 8] if ... in numbers else [8, (8,), (8, 8, 8), "8,8"]
            values = [value for one in values for value in ([one, 8], [8, one])] + counts
        if kind is str:
            values += ["", " ", 5, ["a"]]
        if kind is bool:
            values += [1, "yes"]
        for value in values:
            yield field.name, value


@pytest.mark.parametrize(("name", "value"), [*beyond_bounds(), ("input_range", (255, 0)), ("input_range", (1, 1))])
def test_value_beyond_its_bounds_is_refused_under_its_name(name, value):
    with pytest.raises(InputError) as error:
        make_config(**{name: value})
    assert error.value.setting == name
    assert str(error.value).isprintable()


def test_epsilon_in_grey_levels_or_below_one_is_refused():
    for epsilon, word in ((8, "8/255"), (0.003, "1/255")):
        with pytest.raises(InputError, match=word):
            make_config(epsilon=epsilon)
    assert make_config(epsilon=np.float32(1 / 255)).epsilon == pytest.approx(1 / 255)


def test_no_epoch_at_all_is_refused():
    with pytest.raises(InputError, match="stage2_epochs"):
        make_config(stage1_epochs=0, stage2_epochs=0)
    assert make_config(stage1_epochs=1, stage2_epochs=0).epochs == 1


def test_numbers_of_other_libraries_become_pythons_own():
    changed = dict(epsilon=np.float32(0.25), batch_size=np.int64(32), gan_weight=1, hinge_weight=Fraction(1, 4))
    changed |= dict(image_size=[np.int32(8), 9], input_range=(0, 255))
    config = make_config(**changed)
    # As the command line has them, so that either continues the other's run.
    expected = "(0.25, 32, 1.0, 0.25, (8, 9), (0.0, 255.0))"
    assert repr(tuple(getattr(config, name) for name in changed)) == expected


@pytest.mark.parametrize(
    ("idle", "effective"),
    [
        (dict(input_range=(0, 255)), dict(classifier="x.keras")),
        (dict(custom_objects="layers.py"), dict(classifier="x.keras")),
        (dict(classifier="x.keras", classifier_epochs=3), dict(defense="pgd")),
        (dict(queries_per_epoch=10), dict(black_box="small")),
        (dict(black_box="vgg"), dict(black_box="Small")),
    ],
)
def test_setting_without_effect_is_refused(idle, effective):
    with pytest.raises(InputError) as error:
        refuse_idle_settings(make_config(**idle))
    assert error.value.setting == list(idle)[-1]
    refuse_idle_settings(make_config(**{**idle, **effective}))
