"""One export, of which all tests of serving ask their questions."""

import pytest
import serving_double
from served_example import PRESET, make_served

from aigan_tf.serving.export import export_generator


@pytest.fixture(scope="session")
def served():
    return make_served()


@pytest.fixture(scope="session")
def exported(served, tmp_path_factory):
    return export_generator(tmp_path_factory.mktemp("export") / "generator", served, PRESET)


@pytest.fixture(scope="session")
def model(exported):
    return serving_double.Model(exported)
