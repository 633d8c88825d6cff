"""AI-GAN, version 1 of the paper (arXiv 2002.02196v1): the algorithm itself."""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from aigan_tf.engine.replicas import own_seed, replica
from aigan_tf.method.losses import adversarial_loss, discriminator_loss, gan_loss, hinge_loss
from aigan_tf.method.metrics import PerturbationL2, PerturbationLinf, SuccessRate
from aigan_tf.method.perturbation import apply_perturbation, bounded, l2_norms
from aigan_tf.method.targets import draw_epsilons, draw_target_classes, spread_target_classes


class AIGAN(keras.Model):
    """Trains a generator and a discriminator jointly, with an attacker in stage 1 and without it in stage 2.

    Use it as any Keras model: `compile`, then `fit` on batches of `(images, labels)` with stock
    callbacks. `stage` starts at 1; a callback sets it to 2. The stage is a variable: changing it
    retraces nothing, and it is saved with the weights.

    Args:
        generator: images and classes to directions `(batch, height, width, channels)` in units of the budget.
        discriminator: images to logits `(batch,)`.
        classifier: the model under attack, a callable from images in `[0, 1]` to logits
            `(batch, num_classes)`. It is never changed; a Keras model is called in inference mode.
        num_classes: classes of the classifier.
        attack: `"targeted"` (the generator is given the class to reach) or `"untargeted"` (it is
            given the label to leave).
        seed: with the step counter it decides every random choice of training.
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        classifier: Callable[[tf.Tensor], tf.Tensor],
        num_classes: int,
        attack: str = "targeted",
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if attack not in ("targeted", "untargeted"):
            raise ValueError(f"attack must be 'targeted' or 'untargeted'; received {attack!r}")
        self.generator = generator
        self.discriminator = discriminator
        # A partial is not tracked: the classifier's weights are neither trained nor saved with this model.
        is_keras = isinstance(classifier, keras.Model)
        self.classifier = functools.partial(classifier, **({"training": False} if is_keras else {}))
        self.num_classes = num_classes
        self.targeted = attack == "targeted"
        self.seed = seed
        self.stage_variable = self.add_weight(
            shape=(), dtype="int32", initializer="ones", trainable=False, name="stage"
        )
        self.losses_seen = {
            name: keras.metrics.Mean(name=name)
            for name in ("generator_loss", "adversarial_loss", "gan_loss", "hinge_loss", "discriminator_loss")
        }
        self.success_rate = SuccessRate(self.targeted)
        self.perturbation_l2 = PerturbationL2(name="perturbation_l2")
        self.perturbation_linf = PerturbationLinf(name="perturbation_linf")
        self.hinge_active = keras.metrics.Mean(name="hinge_active")
        self.built = True

    @property
    def stage(self) -> int:
        """1: the discriminator's real images are the attacker's. 2: they are the clean images."""
        return int(tf.convert_to_tensor(self.stage_variable.value))

    @stage.setter
    def stage(self, stage: int):
        if stage not in (1, 2):
            raise ValueError(f"stage must be 1 or 2; received {stage!r}")
        self.stage_variable.assign(stage)

    @property
    def steps_done(self) -> int:
        """Updates of the generator so far."""
        return int(tf.convert_to_tensor(self.generator_optimizer.iterations.value))

    @property
    def metrics(self):
        """Reset at the start of every epoch; their names are the keys of the logs."""
        return [
            *self.losses_seen.values(),
            self.success_rate,
            self.perturbation_l2,
            self.perturbation_linf,
            self.hinge_active,
        ]

    def compile(
        self,
        generator_optimizer: keras.optimizers.Optimizer,
        discriminator_optimizer: keras.optimizers.Optimizer,
        epsilon: float,
        attacker: Callable[..., tf.Tensor],
        gan_weight: float = 1.0,
        hinge_weight: float = 1.0,
        hinge_threshold: float = 0.0,
        variable_epsilon: bool = False,
        **kwargs,
    ):
        """Sets what training needs. Both optimizers are built here, so that a checkpoint restores all of them.

        Args:
            generator_optimizer, discriminator_optimizer: two different Keras optimizers.
            epsilon: L-infinity budget as a fraction of the pixel range.
            attacker: called as `attacker(classifier, images, classes, epsilon=epsilon, seed=two_integers)` in
                stage 1; returns the attacker's images. See `pgd_attack`.
            variable_epsilon: whether each image is trained with a budget of its own up to `epsilon`, which
                the generator is told, so that one generator serves all of them.
            gan_weight: lambda, the weight of L_GAN.
            hinge_weight: gamma, the weight of L_hinge.
            hinge_threshold: c, the L2 norm of a perturbation up to which the hinge is silent, at the budget
                `epsilon`; smaller budgets lower it in proportion.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, as in Keras.
        """
        # XLA halves the speed of convolutions on a CPU, so Keras's "auto" is not taken.
        super().compile(optimizer=generator_optimizer, **{"jit_compile": False, **kwargs})
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        for optimizer, network in (
            (generator_optimizer, self.generator),
            (discriminator_optimizer, self.discriminator),
        ):
            if not optimizer.built:
                optimizer.build(network.trainable_variables)
        self.epsilon = epsilon
        self.attacker = attacker
        self.gan_weight = gan_weight
        self.hinge_weight = hinge_weight
        self.hinge_threshold = hinge_threshold
        self.variable_epsilon = variable_epsilon

    def choose_classes(self, labels: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Returns the class each image is driven to, drawn with a seed and spread evenly without; untargeted: its label.

        Args:
            labels: int32 `(batch,)`.
            seed: two integers, or None.

        Returns:
            int32 `(batch,)`.
        """
        if not self.targeted:
            return labels
        if seed is None:
            return spread_target_classes(labels, self.num_classes)
        return draw_target_classes(labels, self.num_classes, seed)

    def perturb(self, images: tf.Tensor, classes: tf.Tensor, epsilons: tf.Tensor, training: bool = False) -> tf.Tensor:
        """G(x, t): perturbations of `images` towards `classes`, within epsilon, before clipping to `[0, 1]`.

        `training` also says which gradient the bound has: see `bounded`.
        """
        budgets = {"budgets": epsilons / self.epsilon} if self.variable_epsilon else {}
        return bounded(self.generator(images, classes, **budgets, training=training), epsilons, training)

    def call(self, images, classes, epsilons=None):
        """Returns adversarial images.

        Args:
            images: float32 `(batch, height, width, channels)` in `[0, 1]`.
            classes: int32 `(batch,)`, target classes, or labels if untargeted.
            epsilons: float32 `(batch,)`, budgets of a generator that takes them; None for the greatest.

        Returns:
            float32, shape of `images`, in `[0, 1]` and within the budget.
        """
        if epsilons is None:
            epsilons = self.greatest_epsilons(images)
        return apply_perturbation(images, self.perturb(images, classes, epsilons), epsilons)

    def hinge_thresholds(self, epsilons: tf.Tensor) -> tf.Tensor:
        """Returns c for each image's budget, float32 `(batch,)`."""
        return self.hinge_threshold * (epsilons / self.epsilon)

    def greatest_epsilons(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the largest budget for each image, float `(batch,)`."""
        return tf.fill(tf.shape(images)[:1], tf.cast(self.epsilon, images.dtype))

    def train_step(self, data):
        """One update of both networks; the order is that of the paper's algorithm."""
        images, labels = data
        seeds = tf.random.split(tf.stack([tf.constant(self.seed, tf.int64), self.generator_optimizer.iterations.value]))

        # Which class each image is driven to (or from, if untargeted).
        classes = self.choose_classes(labels, seeds[0])

        # How far each image may be changed.
        epsilons = self.greatest_epsilons(images)
        if self.variable_epsilon:
            epsilons = draw_epsilons(tf.shape(images)[0], self.epsilon, tf.random.fold_in(seeds[0], 1))

        # What the discriminator takes for real: stage 1 the attacker's images, stage 2 the clean ones.
        real_images = tf.cond(
            tf.equal(self.stage_variable, 1),
            lambda: self.attacker(self.classifier, images, classes, epsilon=epsilons, seed=own_seed(seeds[1])),
            lambda: images,
        )

        with tf.GradientTape(persistent=True) as tape:
            perturbations = self.perturb(images, classes, epsilons, training=True)
            adversarial_images = apply_perturbation(images, perturbations, epsilons, training=True)
            logits = self.classifier(adversarial_images)
            real_logits = self.discriminator(real_images, training=True)
            fake_logits = self.discriminator(adversarial_images, training=True)
            losses = self.generator_losses(logits, classes, fake_logits, perturbations, epsilons)
            losses["discriminator_loss"] = discriminator_loss(real_logits, fake_logits)

        # Each loss moves its own network alone, though both hang on the same forward pass. The optimizers add up the
        # gradients of all replicas, each of which has the mean over its part of the batch.
        share = tf.cast(1 / replica()[0], losses["generator_loss"].dtype)
        for loss, network, optimizer in (
            ("generator_loss", self.generator, self.generator_optimizer),
            ("discriminator_loss", self.discriminator, self.discriminator_optimizer),
        ):
            variables = network.trainable_variables
            gradients = tape.gradient(losses[loss], variables, output_gradients=optimizer.scale_loss(share))
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        del tape

        return self.update_metrics(losses, images, adversarial_images, perturbations, epsilons, logits, classes)

    def test_step(self, data):
        """Success over the images the classifier gets right, each with one fixed target; the attacker is not run."""
        images, labels = data
        classes = self.choose_classes(labels)
        epsilons = self.greatest_epsilons(images)
        perturbations = self.perturb(images, classes, epsilons)
        adversarial_images = apply_perturbation(images, perturbations, epsilons)
        logits = self.classifier(adversarial_images)
        fake_logits = self.discriminator(adversarial_images, training=False)
        losses = self.generator_losses(logits, classes, fake_logits, perturbations, epsilons)
        correct = tf.equal(tf.argmax(self.classifier(images), -1, tf.int32), labels)
        return self.update_metrics(
            losses, images, adversarial_images, perturbations, epsilons, logits, classes, correct
        )

    def generator_losses(self, logits, classes, fake_logits, perturbations, epsilons) -> dict[str, tf.Tensor]:
        """L = L_adv + lambda * L_GAN + gamma * L_hinge, and its terms, each a float scalar."""
        losses = {
            "adversarial_loss": adversarial_loss(logits, classes, self.targeted),
            "gan_loss": gan_loss(fake_logits),
            "hinge_loss": hinge_loss(perturbations, self.hinge_thresholds(epsilons)),
        }
        losses["generator_loss"] = (
            losses["adversarial_loss"] + self.gan_weight * losses["gan_loss"] + self.hinge_weight * losses["hinge_loss"]
        )
        return losses

    def update_metrics(
        self, losses, images, adversarial_images, perturbations, epsilons, logits, classes, weights=None
    ):
        """Adds a batch to the metrics; `weights` (bool, `(batch,)`) leaves images out of success and norms."""
        count = tf.shape(images)[0]  # the last batch may be smaller: means are over images, not batches
        for name, loss in losses.items():
            # A replica that got no image of the last batch has no mean either.
            self.losses_seen[name].update_state(tf.where(count > 0, loss, 0.0), count)
        self.success_rate.update_state(logits, classes, weights)
        self.perturbation_l2.update_state(images, adversarial_images, weights)
        self.perturbation_linf.update_state(images, adversarial_images)
        self.hinge_active.update_state(l2_norms(perturbations) > self.hinge_thresholds(epsilons))
        silent = {"discriminator_loss"} - losses.keys()  # not measured in validation: no number rather than a zero
        return {metric.name: metric.result() for metric in self.metrics if metric.name not in silent}
