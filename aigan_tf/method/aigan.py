"""AI-GAN, version 1 of the paper (arXiv 2002.02196v1): the algorithm itself."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from aigan_tf.engine.keras_state import own_keras_state
from aigan_tf.engine.optimizers import descend
from aigan_tf.engine.replicas import replica_seed, sum_over_replicas
from aigan_tf.method.losses import adversarial_loss, discriminator_loss, gan_loss, hinge_loss
from aigan_tf.method.metrics import PerturbationL2, PerturbationLinf, SuccessRate, successes
from aigan_tf.method.targets import draw_epsilons, draw_targets, spread_targets
from aigan_tf.method.threat_model import l2_norms, perturb


class Attack(NamedTuple):
    """The generator's attack on a batch: what goes in, and what each network makes of it.

    Args:
        images: float32 `(batch, height, width, channels)` in `[0, 1]`, clean.
        targets: int32 `(batch,)`, t: the classes to reach; of an untargeted attack the labels.
        epsilons: float32 `(batch,)`, the budget of each image.
        perturbations: shape of `images`, G(x, t), within epsilon, before clipping to `[0, 1]`.
        adversarial_images: shape of `images`, x + G(x, t), in `[0, 1]`.
        logits: float32 `(batch, num_classes)`, the classifier's on the adversarial images.
        succeeded: bool `(batch,)`, whether the classifier answers the target or, untargeted, not the label.
        fake_logits: float32 `(batch,)`, the discriminator's on the adversarial images.
    """

    images: tf.Tensor
    targets: tf.Tensor
    epsilons: tf.Tensor
    perturbations: tf.Tensor
    adversarial_images: tf.Tensor
    logits: tf.Tensor
    succeeded: tf.Tensor
    fake_logits: tf.Tensor


class GeneratorLoss(NamedTuple):
    """L and its three terms, each a float scalar; the terms without their weights."""

    total: tf.Tensor
    adversarial: tf.Tensor
    gan: tf.Tensor
    hinge: tf.Tensor


class AIGAN(keras.Model):
    """Trains a generator G and a discriminator D jointly against a frozen classifier C.

        L        = L_adv + gan_weight * L_GAN + hinge_weight * L_hinge
        L_adv    = E l_C(x + G(x, t), t)              l_C: the classifier's training loss, cross-entropy
        stage 1  L_GAN = E log D(A(x, t)) + E log(1 - D(x + G(x, t)))
        stage 2  L_GAN = E log D(x)       + E log(1 - D(x + G(x, t)))
        L_hinge  = E max(0, ||G(x, t)||_2 - c)

    D maximises L_GAN; G minimises L. A is the attacker, targeted PGD on C, with the same x and t as G; it is removed in
    stage 2. The target t is drawn from the classes other than the label, afresh for each image and step: uniformly, or
    with `hard_targets` more often where attacks fail. An untargeted attack takes the label in place of t, and
    L_adv = E -log(1 - p_label). Differs from the paper: G uses the non-saturating form of its GAN term
    (`losses.gan_loss`), and the hinge, in stage 2 the GAN term too, is multiplied by the share of the batch's attacks that
    succeed (`generator_loss`).

    Use it as any Keras model: `compile`, then `fit` on batches of `(images, labels)` with stock callbacks. `stage`
    starts at 1; a callback sets it to 2 (`StageSwitch`). It is a variable: changing it retraces nothing, and checkpoints
    hold it.

    Args:
        generator: images, targets and budgets to directions `(batch, height, width, channels)` in units of the budget.
        discriminator: images to logits `(batch,)`, high for "real".
        classifier: C, a callable from images in `[0, 1]` to logits `(batch, num_classes)`. It is never changed; a Keras
            model is called in inference mode.
        num_classes: classes of the classifier.
        attack: `"targeted"` (reach the target) or `"untargeted"` (leave the label).
        seed: with the step counter it decides every random choice of training.

    Raises:
        ValueError: `attack` is neither of the two.
    """

    @own_keras_state()
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
        self.failure_rates = self.add_weight(
            shape=(num_classes, num_classes),
            initializer="ones",
            trainable=False,
            aggregation="mean",
            name="failure_rates",  # of attacks from each label on each target
        )
        self.loss_metrics = GeneratorLoss(
            *(
                keras.metrics.Mean(name=name)
                for name in ("generator_loss", "adversarial_loss", "gan_loss", "hinge_loss")
            )
        )
        self.discriminator_loss = keras.metrics.Mean(name="discriminator_loss")
        self.success_rate = SuccessRate(self.targeted)
        self.perturbation_l2 = PerturbationL2(name="perturbation_l2")
        self.perturbation_linf = PerturbationLinf(name="perturbation_linf")
        self.hinge_active = keras.metrics.Mean(name="hinge_active")
        self.built = True

    @own_keras_state()
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
        epsilon_factor: Callable[[tf.Tensor], tf.Tensor] | None = None,
        leak: Callable[[tf.Tensor], tf.Tensor] | None = None,
        hard_targets: bool = False,
        target_classes: Sequence[int] | None = None,
        **kwargs,
    ):
        """Sets what training needs. Builds both optimizers, so that a checkpoint restores all of them.

        Args:
            generator_optimizer, discriminator_optimizer: two different Keras optimizers.
            epsilon: L-infinity budget as a fraction of the pixel range.
            attacker: called as `attacker(classifier, images, targets, epsilon=epsilons, seed=two_integers)` in stage 1;
                returns the attacker's images. See `pgd_attack`.
            gan_weight: lambda, the weight of L_GAN; in stage 2 multiplied by the success rate.
            hinge_weight: gamma, the weight of L_hinge, multiplied by the success rate.
            hinge_threshold: c, the L2 norm of a perturbation up to which the hinge is silent, at the budget `epsilon`;
                it is scaled in proportion to each image's budget.
            variable_epsilon: whether each image is trained with a budget of its own up to `epsilon`, which the generator
                is told, so that one generator serves all of them.
            epsilon_factor: factor applied to the budget in training, float32 scalar, given the number of updates so far;
                None for 1.
            leak: part of the gradient that passes if it draws a perturbation back from beyond its bounds, float32 scalar,
                given the number of updates so far; see `threat_model.project`. None for all of it.
            hard_targets: draw a target more often the more often attacks from that label to it fail, not uniformly.
            target_classes: numbers of the only classes that are targets; None for all.
            **kwargs: `run_eagerly`, `steps_per_execution`, `jit_compile`, as in Keras.
        """
        # XLA halves the speed of convolutions on a CPU, so Keras's "auto" is not taken.
        super().compile(optimizer=generator_optimizer, **{"jit_compile": False, **kwargs})
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        networks = {self.generator: generator_optimizer, self.discriminator: discriminator_optimizer}
        for network, optimizer in networks.items():
            if not optimizer.built:
                optimizer.build(network.trainable_variables)
        self.epsilon = epsilon
        self.attacker = attacker
        self.gan_weight = gan_weight
        self.hinge_weight = hinge_weight
        self.hinge_threshold = hinge_threshold
        self.variable_epsilon = variable_epsilon
        self.epsilon_factor = epsilon_factor or (lambda step: 1.0)
        self.leak = leak or (lambda step: 1.0)
        self.hard_targets = hard_targets and self.targeted
        self.target_classes = tuple(range(self.num_classes) if target_classes is None else target_classes)

    def train_step(self, data):
        """One update of both networks, in the order of the paper's algorithm."""
        images, labels = data
        target_seed, attacker_seed, epsilon_seed = self.step_seeds()
        targets = self.choose_targets(labels, target_seed)
        epsilons = self.training_epsilons(images, epsilon_seed)

        # What the discriminator takes for real: the attacker's images in stage 1, the clean images in stage 2.
        real_images = tf.cond(
            tf.equal(self.stage_variable, 1),
            lambda: self.attacker(self.classifier, images, targets, epsilon=epsilons, seed=replica_seed(attacker_seed)),
            lambda: images,
        )
        # One forward pass for both networks; each loss moves its own network alone.
        with tf.GradientTape(persistent=True) as tape:
            real_logits = self.discriminator(real_images, training=True)
            attack = self.attack(images, targets, epsilons, training=True)
            generator_loss = self.generator_loss(attack)
            d_loss = discriminator_loss(real_logits, attack.fake_logits)

        descend(tape, generator_loss.total, self.generator, self.generator_optimizer)
        descend(tape, d_loss, self.discriminator, self.discriminator_optimizer)
        del tape

        if self.hard_targets:
            self._update_failure_rates(attack, labels)
        self._update_metrics(attack, generator_loss)
        self._update_mean(self.discriminator_loss, d_loss, images)
        return {metric.name: metric.result() for metric in self.metrics}

    def test_step(self, data):
        """Success on the images the classifier gets right, each with one fixed target; the attacker is not run."""
        images, labels = data
        attack = self.attack(images, self.choose_targets(labels), self.max_epsilons(images))
        attacked = tf.equal(tf.argmax(self.classifier(images), -1, tf.int32), labels)
        if self.targeted:  # the label, where it is the only target class
            attacked &= tf.not_equal(attack.targets, labels)
        self._update_metrics(attack, self.generator_loss(attack), attacked)
        return {metric.name: metric.result() for metric in self.attack_metrics}

    def attack(self, images, targets, epsilons, training: bool = False) -> Attack:
        """Perturbs a batch and shows it to the classifier and the discriminator; arguments as in `Attack`."""
        perturbations, adversarial_images = self.perturb(images, targets, epsilons, training)
        logits = self.classifier(adversarial_images)
        return Attack(
            images, targets, epsilons, perturbations, adversarial_images, logits,
            succeeded=successes(logits, targets, self.targeted),
            fake_logits=self.discriminator(adversarial_images, training=training),
        )  # fmt: skip

    def perturb(self, images, targets, epsilons, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns perturbations and adversarial images; see `threat_model.perturb`."""
        leak = self.leak(self.generator_optimizer.iterations.value) if training else None
        return perturb(self.generator, images, targets, epsilons, self.epsilon, leak)

    def call(self, images, targets, epsilons=None):
        """Returns adversarial images.

        Args:
            images: float32 `(batch, height, width, channels)` in `[0, 1]`.
            targets: int32 `(batch,)`, target classes; of an untargeted attack the labels.
            epsilons: float32 `(batch,)`, budgets of a generator that takes them; None for the largest.

        Returns:
            float32, shape of `images`, in `[0, 1]` and within the budget.
        """
        _, adversarial_images = self.perturb(
            images, targets, self.max_epsilons(images) if epsilons is None else epsilons
        )
        return adversarial_images

    def generator_loss(self, attack: Attack) -> GeneratorLoss:
        """L = L_adv + gan_weight * L_GAN + hinge_weight * L_hinge, and its terms.

        Differs from the paper: the hinge's weight is multiplied by the share of the batch's attacks that succeed, and so is
        that of the GAN term in stage 2, where real images have no perturbation. Both are satisfied by none, and would
        win while no attack succeeds.
        """
        adversarial = adversarial_loss(attack.logits, attack.targets, self.targeted)
        gan = gan_loss(attack.fake_logits)
        hinge = hinge_loss(attack.perturbations, self.hinge_thresholds(attack.epsilons))
        succeeded = tf.cast(attack.succeeded, gan.dtype)
        share = sum_over_replicas(tf.reduce_sum(succeeded)) / sum_over_replicas(tf.cast(tf.size(succeeded), gan.dtype))
        gan_share = tf.where(tf.equal(self.stage_variable, 1), tf.ones_like(share), share)
        total = adversarial + self.gan_weight * gan_share * gan + self.hinge_weight * share * hinge
        return GeneratorLoss(total, adversarial, gan, hinge)

    def choose_targets(self, labels: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor:
        """Returns t for each label, int32 `(batch,)`: drawn with a seed (two integers), spread evenly without one.

        An untargeted attack gets the labels.
        """
        if not self.targeted:
            return labels
        if seed is None:
            return spread_targets(labels, self.target_classes)
        all_alike = not self.hard_targets and len(self.target_classes) == self.num_classes
        return draw_targets(labels, self.num_classes, seed, None if all_alike else self.target_weights(labels))

    def target_weights(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns the unnormalised probabilities of the targets, float32 `(batch, num_classes)`.

        Only `target_classes` are. With `hard_targets`, the more succeeds, the more the failure rates decide: what nearly
        never succeeds teaches little, and to begin with that is most. A class that is always reached is still drawn a
        twentieth as often as one that never is.
        """
        is_target = np.isin(range(self.num_classes), self.target_classes)
        weights = tf.ones((tf.size(labels), self.num_classes))
        if self.hard_targets:
            # No label is its own target: on the diagonal the rate stays 1.
            pairs = len(self.target_classes) * (self.num_classes - 1)
            succeeds = tf.reduce_sum(1.0 - self.failure_rates) / pairs
            weights = (tf.gather(self.failure_rates, labels) + 0.05) ** succeeds
        return tf.where(is_target, weights, 0.0)

    def step_seeds(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the seeds of this step's targets, of its attacker and of its budgets, two integers each."""
        step = self.generator_optimizer.iterations.value
        targets, attacker = tf.unstack(tf.random.split(tf.stack([tf.constant(self.seed, tf.int64), step])))
        return targets, attacker, tf.random.fold_in(targets, 1)

    def training_epsilons(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns each image's budget in this step, float `(batch,)`; the seed is two integers."""
        epsilons = self.max_epsilons(images)
        if self.variable_epsilon:
            epsilons = draw_epsilons(tf.shape(images)[0], self.epsilon, seed)
        return epsilons * tf.cast(self.epsilon_factor(self.generator_optimizer.iterations.value), epsilons.dtype)

    def max_epsilons(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the largest budget for each image, float `(batch,)`."""
        return tf.fill(tf.shape(images)[:1], tf.cast(self.epsilon, images.dtype))

    def hinge_thresholds(self, epsilons: tf.Tensor) -> tf.Tensor:
        """Returns c for each image's budget, float32 `(batch,)`."""
        return self.hinge_threshold * (epsilons / self.epsilon)

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
        return [*self.attack_metrics, self.discriminator_loss]

    @property
    def attack_metrics(self):
        """The metrics that validation has too."""
        return [
            *self.loss_metrics, self.success_rate, self.perturbation_l2, self.perturbation_linf, self.hinge_active
        ]  # fmt: skip

    def _update_failure_rates(self, attack, labels):
        """Moves the rate of each label and target a tenth of the way towards every such attack: 1 if it fails, else 0."""
        pairs = labels * self.num_classes + attack.targets
        failed = tf.cast(~attack.succeeded, self.failure_rates.dtype)
        counted = tf.stack([tf.ones_like(failed), failed], axis=-1)
        sums = sum_over_replicas(tf.math.unsorted_segment_sum(counted, pairs, self.num_classes**2))
        attacks, failures = tf.unstack(tf.reshape(sums, (*self.failure_rates.shape, 2)), axis=-1)
        moved = (1.0 - 0.9**attacks) * (tf.math.divide_no_nan(failures, attacks) - self.failure_rates)
        self.failure_rates.assign_add(moved)

    def _update_metrics(self, attack, loss, weights=None):
        """Adds a batch to the metrics; `weights` (bool, `(batch,)`) leaves images out of success and norms."""
        for metric, value in zip(self.loss_metrics, loss, strict=True):
            self._update_mean(metric, value, attack.images)
        self.success_rate.update_state(attack.logits, attack.targets, weights)
        self.perturbation_l2.update_state(attack.images, attack.adversarial_images, weights)
        self.perturbation_linf.update_state(attack.images, attack.adversarial_images)
        self.hinge_active.update_state(l2_norms(attack.perturbations) > self.hinge_thresholds(attack.epsilons))

    @staticmethod
    def _update_mean(metric, loss, images):
        """Adds a loss as a mean over images: the last batch may be smaller, and a replica may have none of it."""
        count = tf.shape(images)[0]
        metric.update_state(tf.where(count > 0, loss, 0.0), count)
