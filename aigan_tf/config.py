"""All settings of a run in one frozen dataclass, and what differs for each data set."""

import dataclasses
import math
import numbers
import re

from aigan_tf.errors import InputError

# What a field's value may be: numbers of NumPy too, where a caller computed them.
_KINDS = {
    bool: (bool, "true or false"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "a text"),
}
MOST = {
    "generator_width": 1024,
    "generator_blocks": 100,
    "class_maps": 64,
    "discriminator_width": 1024,
}  # beyond these no machine holds the network

# Classifiers that are trained here; `classifiers.architectures` builds them, and must have the same names.
ARCHITECTURES = ("small", "a", "b", "c", "resnet20", "resnet32", "wrn34_10")
DEFENSES = ("", "fgsm", "ensemble", "pgd", "aigan")


def _is_finite(value) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _setting(default, help_text):
    """A field of `Config`: its default on an unknown data set, and what the command line says of it."""
    return dataclasses.field(default=default, metadata={"help": help_text})


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run; each is a flag of train.py of the same name.

    Raises:
        InputError: a value cannot be used (on construction).
    """

    # What is attacked
    dataset: str = _setting("digits", "digits, a TFDS image classification set (mnist, cifar10, ...) or a folder")
    image_size: str = _setting("", "HEIGHT,WIDTH in pixels to resize images to; empty: as they are")
    classifier: str = _setting(
        "resnet20", "small, A, B, C, resnet20, resnet32, wrn34_10, a .keras file or a SavedModel"
    )
    classifier_epochs: int = _setting(
        0, "epochs of a classifier trained here, or hardened by --defense; 0: its own recipe, 10 of hardening"
    )
    defense: str = _setting(
        "",
        "train the classifier adversarially: fgsm, ensemble, pgd or aigan (a generator in the loop); empty: as usual",
    )
    input_range: str = _setting("0,1", "LOW,HIGH of the pixels your own classifier takes, such as 0,255")
    black_box: str = _setting(
        "",
        "architecture of a local copy, learned from the classifier's answers and attacked in its place; empty: no copy",
    )
    queries_per_epoch: int = _setting(
        2000, "with --black_box: generated images the classifier is asked about after each epoch"
    )
    class_names: str = _setting("", "file with one class name a line, in label order; empty: the data set's names")
    custom_objects: str = _setting(
        "", "Python file that registers the custom layers of your own classifier; empty: none"
    )

    # The threat model
    attack: str = _setting("targeted", "targeted: reach a chosen class; untargeted: leave the true one")
    epsilon: float = _setting(8 / 255, "L-infinity budget as a fraction of the pixel range, above 0, at most 1")
    bound: str = _setting(
        "projection", "what keeps the generator within epsilon: projection, as PGD does after a step; or tanh"
    )
    variable_epsilon: bool = _setting(
        False, "train one generator for every budget up to --epsilon, which it takes as input"
    )

    # The objective L = L_adv + gan_weight * L_GAN + hinge_weight * L_hinge
    gan_weight: float = _setting(0.02, "weight of the generator's GAN term (the paper's lambda)")
    hinge_weight: float = _setting(0.1, "weight of the hinge term (the paper's gamma)")
    hinge_threshold: float = _setting(
        0.0,
        "L2 norm of a perturbation, of pixels in [0, 1], up to which the hinge is silent (the paper's c); "
        "0: half the largest possible",
    )

    # The attacker of stage 1
    attack_steps: int = _setting(10, "gradient steps of the PGD attacker in stage 1")
    attack_step_size: float = _setting(
        0.0, "length of a step of the PGD attacker, as a fraction of the pixel range; 0: epsilon / 4"
    )

    # Training
    stage1_epochs: int = _setting(2, "epochs with the attacker; with --switch=auto the most it may take")
    stage2_epochs: int = _setting(38, "epochs without the attacker")
    switch: str = _setting("auto", "auto: stage 2 begins once validation success says so; fixed: after stage1_epochs")
    switch_success: float = _setting(
        0.5,
        "with --switch=auto: share of validation attacks that succeed, from 0 to 1, at which stage 1 has done its work",
    )
    steps_per_epoch: int = _setting(100, "training steps an epoch; 0: one pass over the training data")
    batch_size: int = _setting(128, "images a step")
    optimizer: str = _setting(
        "muon",
        "of the generator: muon, for its kernels, with Adam for the rest; or adam throughout, which wants half the rate",
    )
    learning_rate: float = _setting(1e-2, "peak of the generator's cosine schedule")
    discriminator_learning_rate: float = _setting(2e-4, "learning rate of the discriminator (Adam)")
    mixed_precision: bool = _setting(
        False,
        "compute the convolutions of training steps in bfloat16 on a CPU that has it, on a GPU in float16 with loss "
        "scaling; measuring stays in float32",
    )
    flip: bool = _setting(False, "train classifier and generator on mirror images too")
    max_shift: int = _setting(0, "train the generator on images moved by up to this many pixels")

    # The networks
    generator_width: int = _setting(16, "channels of the generator at full size, at most 1024")
    generator_blocks: int = _setting(4, "residual blocks of the generator, at most 100")
    class_maps: int = _setting(
        0, "channels of a learned map of each class, which the generator sees beside the image, at most 64; 0: none"
    )
    discriminator_width: int = _setting(
        16, "channels of the discriminator's first convolution, at most 1024; doubled by each of the two that follow"
    )

    seed: int = _setting(0, "decides every random choice")

    def __post_init__(self):
        def check(name, ok, expected, fix):
            if not ok:
                raise InputError(f"--{name}={getattr(self, name)}: expected {expected}; {fix}")

        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kind, expected = _KINDS[field.type]
            ok = isinstance(value, kind) and (field.type is bool or not isinstance(value, bool))
            check(field.name, ok, expected, "give one")
            if field.type is float:
                check(field.name, _is_finite(value), "a finite number", "give one")
            elif field.type is int:
                most = MOST.get(field.name, 2**31 - 1)
                check(field.name, value <= most, f"at most {most}", "choose a smaller one")
        for name in ("dataset", "classifier"):
            check(name, getattr(self, name).strip(), "a name or a path", "give one, or leave it out")
        check(
            "epsilon", 0 < self.epsilon <= 1, "a fraction of the pixel range above 0 and at most 1", self._epsilon_hint
        )
        check(
            "epsilon",
            self.epsilon * 255 >= 1 - 1e-4,
            "at least 1/255, one grey level: less changes no 8-bit picture",
            "give e.g. 8/255",
        )
        check("attack", self.attack in ("targeted", "untargeted"), "targeted or untargeted", "choose one of them")
        check("defense", self.defense in DEFENSES, "fgsm, ensemble, pgd, aigan or nothing", "choose one of them")
        check("bound", self.bound in ("projection", "tanh"), "projection or tanh", "choose one of them")
        check("optimizer", self.optimizer in ("muon", "adam"), "muon or adam", "choose one of them")
        check("switch", self.switch in ("auto", "fixed"), "auto or fixed", "choose one of them")
        check("switch_success", 0 < self.switch_success <= 1, "a share above 0 and at most 1", "give e.g. 0.5")
        check("stage1_epochs", self.stage1_epochs >= 0, "0 or more", "0 leaves the stage out")
        check("stage2_epochs", self.stage2_epochs >= 0, "0 or more", "0 leaves the stage out")
        if self.stage1_epochs + self.stage2_epochs == 0:
            raise InputError(
                "--stage1_epochs=0 --stage2_epochs=0: expected at least one epoch in all; raise one of them"
            )
        for name in ("gan_weight", "hinge_weight", "hinge_threshold", "attack_step_size"):
            check(name, getattr(self, name) >= 0, "0 or more", "give 0 to switch it off or to its default")
        check(
            "attack_step_size",
            self.attack_step_size <= 1,
            "a fraction of the pixel range, at most 1",
            "give e.g. 0.0157, or 0 for epsilon / 4",
        )
        for name in ("learning_rate", "discriminator_learning_rate"):
            check(name, getattr(self, name) > 0, "above 0", "give e.g. 0.001")
        for name in ("attack_steps", "batch_size", "generator_width", "discriminator_width", "queries_per_epoch"):
            check(name, getattr(self, name) >= 1, "1 or more", "raise it")
        for name in (
            "steps_per_epoch",
            "classifier_epochs",
            "generator_blocks",
            "class_maps",
            "max_shift",
            "seed",
        ):
            check(name, getattr(self, name) >= 0, "0 or more", "raise it")
        check(
            "image_size",
            not self.image_size or re.fullmatch(r"[1-9][0-9]{0,4},[1-9][0-9]{0,4}", self.image_size),
            "HEIGHT,WIDTH in pixels",
            "give e.g. 32,32",
        )
        for field in dataclasses.fields(self):  # what is equal is then saved alike, and NumPy's numbers as Python's own
            if field.type in (int, float):
                object.__setattr__(self, field.name, field.type(getattr(self, field.name)))
        try:
            low, high = self.pixel_range
            ok = math.isfinite(low) and math.isfinite(high) and low < high
        except ValueError:
            ok = False
        check("input_range", ok, "LOW,HIGH with LOW below HIGH", "give e.g. 0,255 or -1,1")

    @property
    def _epsilon_hint(self) -> str:
        return f"{self.epsilon:g} grey levels are {self.epsilon:g}/255" if self.epsilon > 1 else "give e.g. 8/255"

    @property
    def targeted(self) -> bool:
        return self.attack == "targeted"

    @property
    def pixel_range(self) -> tuple[float, float]:
        """What the user's classifier takes for black and for full intensity."""
        low, high = self.input_range.split(",")
        return float(low), float(high)

    @property
    def size(self) -> tuple[int, int] | None:
        """`(height, width)` to resize to, or None."""
        return tuple(int(side) for side in self.image_size.split(",")) if self.image_size else None

    @property
    def step_size(self) -> float:
        """Length of one step of the attacker, as a fraction of the pixel range."""
        return self.attack_step_size or self.epsilon / 4

    def hinge_limit(self, image_shape: tuple[int, int, int]) -> float:
        """c for images of `(height, width, channels)`: half of epsilon * sqrt(values) unless one was given."""
        return self.hinge_threshold or 0.5 * self.epsilon * math.sqrt(math.prod(image_shape))

    @property
    def epochs(self) -> int:
        """Both stages together; a stage 1 that ends early leaves its epochs to stage 2."""
        return self.stage1_epochs + self.stage2_epochs


_MNIST = dict(
    classifier="C",
    epsilon=0.3,
    gan_weight=0.002,
    hinge_weight=0.006,
    attack_steps=3,
    attack_step_size=0.15,
    switch_success=0.9,
    mixed_precision=True,
    generator_width=32,
    class_maps=8,
    max_shift=2,
    steps_per_epoch=100,
    stage1_epochs=4,
    stage2_epochs=32,
)

_CIFAR = dict(
    classifier="resnet32",
    gan_weight=0.005,
    hinge_weight=0.02,
    flip=True,
    attack_steps=3,  # together they take half to all of the time of a step of stage 2
    attack_step_size=0.0157,  # half of epsilon
    mixed_precision=True,
    steps_per_epoch=250,
    stage1_epochs=3,
    stage2_epochs=35,
    generator_width=32,
    class_maps=8,
)

# Only what differs from the defaults above.
PRESETS = {
    "digits": dict(
        classifier="small",
        epsilon=0.3,
        hinge_weight=0.03,
        switch_success=0.85,
        generator_width=32,
        max_shift=1,
        batch_size=64,
        steps_per_epoch=60,  # an epoch's end costs a second: validation, checkpoint, TensorBoard
        stage1_epochs=4,
        stage2_epochs=21,
    ),
    "mnist": {**_MNIST, "switch_success": 0.95, "stage1_epochs": 8, "stage2_epochs": 112},
    "fashion_mnist": _MNIST,
    "cifar10": _CIFAR,
    "cifar100": {**_CIFAR, "classifier": "resnet20", "class_maps": 16, "stage1_epochs": 5, "stage2_epochs": 65},
}


def before_they_existed() -> dict:
    """Returns what each setting was in a run that is older than it: its default, but where that changed what was done before."""
    return dataclasses.asdict(Config()) | {"optimizer": "adam", "bound": "tanh", "discriminator_width": 32}


def make_config(**settings) -> Config:
    """Returns the settings of a run: the data set's preset, with `settings` taking precedence.

    Raises:
        InputError: a value cannot be used.
    """
    name = str(settings.get("dataset", "digits")).split(":")[0]  # mnist:3.0.1 is a version of mnist
    preset = PRESETS.get(name, {})
    return Config(**{**preset, **settings})


def is_built_in(classifier: str) -> bool:
    """Whether the name means a classifier that is trained here, not a file."""
    return classifier.lower() in ARCHITECTURES


def refuse_idle_settings(config: Config) -> None:
    """Refuses settings that would be ignored, so that none is believed to act, and a copy that cannot be built.

    Raises:
        InputError: there is one.
    """
    built_in = is_built_in(config.classifier)
    idle = (
        {"input_range": "0,1", "custom_objects": ""} if built_in else {} if config.defense else {"classifier_epochs": 0}
    )
    for name, default in idle.items():
        if getattr(config, name) != default:
            raise InputError(
                f"--{name}={getattr(config, name)} has no effect on --classifier={config.classifier}; expected it only with "
                f"{'a classifier of your own' if built_in else 'a classifier trained here, or with --defense'}: leave it out"
            )
    if config.black_box and not is_built_in(config.black_box):
        raise InputError(
            f"--black_box={config.black_box}: expected an architecture for the copy, one of "
            f"{', '.join(ARCHITECTURES)}: choose one"
        )
    if config.queries_per_epoch != Config.queries_per_epoch and not config.black_box:
        raise InputError(
            f"--queries_per_epoch={config.queries_per_epoch} has no effect; expected it only with --black_box: leave it out"
        )
