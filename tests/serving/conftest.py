"""One export, of which all tests of serving ask their questions."""

import pytest
import serving_double
from served_example import EPSILON, NAMES, PRESET, SHAPE, classifier, make_generator

from aigan_tf.serving.export import ServedGenerator, export_generator


@pytest.fixture(scope="session")
def served():
    """A generator with every signature."""
    generator = make_generator(budget_input=True)
    return ServedGenerator(generator, SHAPE, NAMES, EPSILON, True, variable_epsilon=True, classifier=classifier)


@pytest.fixture(scope="session")
def model(exported):
    return serving_double.Model(exported)


@pytest.fixture(scope="session")
def exported(served, tmp_path_factory):
    return export_generator(tmp_path_factory.mktemp("export") / "generator", served, PRESET)
