"""Success against epsilon."""

import functools

from aigan_tf.evaluation import foolbox_attacks
from aigan_tf.evaluation.attacks import GENERATOR
from aigan_tf.evaluation.measure import evaluate_attack

CURVE_POINTS = 8


CURVE_EXAMPLES = 1000  # test images of a generator's success-against-epsilon curve


COMPARED_CURVE_EXAMPLES = 100  # those of other attacks' curves: one target each, and still a second for ten


def success_curve(name, attack_at, config, examples, **settings):
    """Success at each budget of an attack that `attack_at` makes for it."""
    kept = ("epsilon", "num_attacks", "success_rate", "mean_l2")
    points = []
    for share in range(1, CURVE_POINTS + 1):
        epsilon = config.epsilon * share / CURVE_POINTS
        measured = evaluate_attack(
            attack_at(epsilon),
            examples,
            epsilon,
            config.targeted,
            config.seed,
            progress=f"{name} within {255 * epsilon:.3g}/255",
            **settings,
        )
        points.append({key: measured[key] for key in kept})
    return points


def success_curves(config, examples, attacks):
    """Success at each budget of those attacks that take one, on one drawn target an image."""
    curve = functools.partial(
        success_curve,
        config=config,
        examples=examples.first_correct(COMPARED_CURVE_EXAMPLES),
        batch_size=100,
        targets_per_image=1,
    )
    curves = {}
    if GENERATOR in attacks:
        generator = attacks[GENERATOR].run

        def scaled(epsilon):
            share = epsilon / config.epsilon
            return lambda images, classes: images + share * (generator(images, classes) - images)

        if config.variable_epsilon:
            curves[GENERATOR] = curve(GENERATOR, generator.within)
        else:
            curves[f"{GENERATOR}, perturbation scaled down"] = curve(GENERATOR, scaled)
    for name in ("fgsm", "pgd"):
        if name in attacks:
            print(
                f"Measuring {name} at {CURVE_POINTS} budgets, on at most {COMPARED_CURVE_EXAMPLES} images.", flush=True
            )
            curves[name] = curve(
                name,
                lambda epsilon, name=name: foolbox_attacks.baseline(
                    name, examples.classifier, epsilon, config.targeted, config.seed
                ),
            )
    return curves
