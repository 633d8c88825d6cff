"""Deprecated functions fail the tests if this package uses them, and pass if others do."""

import warnings

import pytest
import tensorflow as tf


def run_in(module, code):
    """Runs code as if it stood in that module: a warning belongs to the module it is raised from."""
    exec(code, {"__name__": module, "warnings": warnings, "tf": tf})


@pytest.mark.parametrize("module", ["aigan_tf", "aigan_tf.data.datasets"])
def test_warning_from_this_package_is_an_error(module):
    with pytest.raises(DeprecationWarning, match="gone soon"):
        run_in(module, "warnings.warn('gone soon', DeprecationWarning)")


def test_deprecation_logged_by_tensorflow_for_this_package_is_an_error():
    with pytest.raises(DeprecationWarning, match=r"aigan_tf\.data\.datasets: .*to_float"):
        run_in("aigan_tf.data.datasets", "tf.compat.v1.to_float(0)")


def test_deprecations_of_others_pass(caplog):
    with pytest.warns(DeprecationWarning, match="gone soon"):
        run_in("another.aigan_tf", "warnings.warn('gone soon', DeprecationWarning)")
    run_in("another.aigan_tf", "tf.compat.v1.to_double(0)")  # TensorFlow logs each function once
    assert "to_double" in caplog.text
