"""Success rates at smaller budgets: the success-against-epsilon curves."""

import functools
from collections.abc import Callable, Mapping

from aigan_tf.config import Config, attack_kind
from aigan_tf.errors import say, shown_value
from aigan_tf.evaluation import foolbox_attacks
from aigan_tf.evaluation.attacks import GENERATOR, REFINED
from aigan_tf.evaluation.evaluation_set import EvaluationSet
from aigan_tf.evaluation.finished_run import FinishedRun
from aigan_tf.evaluation.measure import Attack, measure_attack

CURVE_POINTS = 8
CURVE_EXAMPLES = 1000  # images of a single generator's curve
COMPARED_CURVE_EXAMPLES = 100  # images of a comparison's curves, one target each: pgd still takes a second for ten


def success_curve(
    name: str,
    attack_at: Callable[[float], Attack | Callable],
    config: Config,
    examples: EvaluationSet,
    batch_size: int = 500,
) -> list[dict]:
    """Measures an attack at `CURVE_POINTS` budgets up to epsilon.

    Args:
        name: caption of the progress bar.
        attack_at: returns the attack at a budget.
        config: the settings of the run.
        examples: the classifier and the images.
        batch_size: as in `measure_attack`.

    Returns:
        The results' `epsilon`, `num_attacks`, `success_rate` and `mean_l2` at each budget, smallest first.
    """
    points = []
    for share in range(1, CURVE_POINTS + 1):
        epsilon = config.epsilon * share / CURVE_POINTS
        result = measure_attack(
            attack_at(epsilon), examples, epsilon, config.targeted, config.seed, batch_size,
            progress=f"{name} within {shown_value(epsilon)}",
        )  # fmt: skip
        points.append({key: getattr(result, key) for key in ("epsilon", "num_attacks", "success_rate", "mean_l2")})
    return points


def success_curves(run: FinishedRun, attacks: Mapping[str, Attack]) -> dict[str, list[dict]]:
    """Measures those of a comparison's attacks that take a budget, with one drawn target per image."""
    config, examples = run.config, run.examples.first_correct(COMPARED_CURVE_EXAMPLES)

    def curve(name, run_at):
        return success_curve(
            name, lambda epsilon: Attack(run_at(epsilon), targets_per_image=1), config, examples, batch_size=100
        )

    curves = {}
    for name in attacks:
        kind, _ = attack_kind(name)
        if kind in (GENERATOR, REFINED):
            at_budget = attacks[name].run.within
            title = name if config.variable_epsilon else f"{name}, perturbation scaled down"
        elif kind in ("fgsm", "pgd-N", "pgd"):
            at_budget = functools.partial(
                foolbox_attacks.foolbox_attack, name, run.classifier, targeted=config.targeted, seed=config.seed
            )
            title = name
        else:
            continue
        say(f"Measuring {name} at {CURVE_POINTS} budgets, on at most {COMPARED_CURVE_EXAMPLES} images.")
        curves[title] = curve(name, at_budget)
    return curves
