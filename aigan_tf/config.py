"""All settings of a run in one frozen dataclass, and what differs for each data set."""

import dataclasses
import math
import numbers
import re
import types
import typing

from aigan_tf.errors import InputError, shown_value

# Classifiers that are trained here; `classifiers.architectures` builds them and must have the same names.
ARCHITECTURES = ("small", "a", "b", "c", "resnet20", "resnet32", "wrn34_10")
# What evaluate.py measures, N being a number of PGD steps; `evaluation.attacks` builds them and must have the same names.
ATTACKS = ("aigan", "aigan+N", "aigan_stage1", "advgan", "fgsm", "pgd-N", "pgd", "cw")
GROUPS = ("data", "classifier", "threat model", "objective", "stages", "networks", "training", "output")
MAX_INT = 2**31 - 1
FITTED = ("generator_width", "generator_patch", "hinge_weight", "batch_size", "learning_rate")  # by `Config.fitted`
# What a setting was in runs that are older than it, where its default or a preset says another value.
ADDED = {
    "hard_targets": False,
    "gain_maps": False,
    "classifier_features": False,
    "epsilon_start": 1.0,
    "generator_patch": 1,
}
FORMAT = 1  # of config.json and report.json; raised when a reader of an earlier one, or the default of a new setting, would go wrong


@dataclasses.dataclass(frozen=True)
class Setting:
    """The bounds and the help of a field of `Config`, read by the checks, `--help` and the fuzzer.

    Args:
        help: one line for `--help`, with the unit.
        group: one of `GROUPS`.
        low, high: inclusive bounds of a number; None for no bound.
        above: exclusive lower bound.
        choices: the only values.
        if_none: what None stands for.
    """

    help: str
    group: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] | None = None
    if_none: str | None = None


def _setting(default, group, help, **bounds):
    return dataclasses.field(default=default, metadata={"setting": Setting(help, group, **bounds)})


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of one run, each a flag of train.py of the same name. None stands for the setting's default.

    Raises:
        InputError: a value cannot be used (on construction).
    """

    dataset: str = _setting(
        "digits", "data", "digits, a TFDS image classification data set (mnist, cifar10, ...) or a folder"
    )
    image_size: tuple[int, int] | None = _setting(
        None, "data", "HEIGHT,WIDTH in pixels to resize images to", low=1, high=99999, if_none="as they are"
    )
    class_names: str | None = _setting(
        None,
        "data",
        "text file with one class name per line, in the classifier's order: orders the data set's classes if it has their "
        "names, else renames them",
        if_none="the data set's names",
    )
    flip: bool = _setting(False, "data", "train classifier and generator on mirrored images too")
    max_shift: int = _setting(0, "data", "shift the generator's training images by up to this many pixels", low=0)

    classifier: str = _setting(
        "resnet20",
        "classifier",
        "small, A, B, C, resnet20, resnet32 or wrn34_10, trained here; or your own model: a .keras or .h5 file or a SavedModel folder",
    )
    classifier_epochs: int | None = _setting(
        None,
        "classifier",
        "training epochs of a classifier trained here, or of your own with `defense`",
        low=1,
        if_none="the architecture's recipe; 10 for your own",
    )
    input_range: tuple[float, float] = _setting(
        (0.0, 1.0), "classifier", "LOW,HIGH of the pixel values your own classifier expects, such as 0,255"
    )
    input_mean: tuple[float, ...] | None = _setting(
        None,
        "classifier",
        "mean that your own classifier expects to be subtracted, in units of `input_range`: one number, or one per channel "
        "in its order",
        if_none="0",
    )
    input_std: tuple[float, ...] | None = _setting(
        None,
        "classifier",
        "standard deviation that it expects to be divided by, likewise",
        above=0,
        if_none="1",
    )
    input_channels: str = _setting("rgb", "classifier", "order of the channels that it expects", choices=("rgb", "bgr"))
    classifier_output: str | None = _setting(
        None, "classifier", "name of the output to attack, if your own classifier has several", if_none="its only one"
    )
    custom_objects: str | None = _setting(
        None,
        "classifier",
        "Python file that registers custom layers of your own classifier; it is executed",
        if_none="none",
    )
    defense: str | None = _setting(
        None,
        "classifier",
        "adversarial training of the classifier: by FGSM, FGSM on an ensemble, PGD, or a generator in the loop",
        choices=("fgsm", "ensemble", "pgd", "aigan"),
        if_none="standard training",
    )
    black_box: str | None = _setting(
        None,
        "classifier",
        "use only the classifier's answers: attack a surrogate of this architecture that is trained on them",
        if_none="the classifier itself is attacked",
    )
    queries_per_epoch: int = _setting(
        2000,
        "classifier",
        "with `black_box`: queries to the classifier after each epoch, on generated images",
        low=1,
    )

    attack: str = _setting(
        "targeted",
        "threat model",
        "goal: a chosen class (targeted) or any wrong one (untargeted)",
        choices=("targeted", "untargeted"),
    )
    epsilon: float = _setting(
        8 / 255, "threat model", "L-infinity budget as a fraction of the pixel range, at least 1/255", above=0, high=1
    )
    variable_epsilon: bool = _setting(
        False, "threat model", "train one generator for every budget up to `epsilon`; it takes the budget as an input"
    )

    target_classes: tuple[str, ...] | None = _setting(
        None,
        "threat model",
        "attack towards these classes alone, names or numbers by comma; the generator learns no other",
        if_none="all",
    )

    gan_weight: float = _setting(0.005, "objective", "lambda, the weight of the generator's GAN term", low=0, high=1e9)
    hinge_weight: float | None = _setting(
        None,
        "objective",
        "gamma, the weight of the hinge term",
        low=0,
        high=1e9,
        if_none="0.035 / the largest L2 norm within epsilon",
    )
    hinge_threshold: float | None = _setting(
        None,
        "objective",
        "c, the L2 norm of a perturbation (pixels in [0, 1]) up to which the hinge is zero",
        low=0,
        if_none="half of the largest within epsilon",
    )
    hard_targets: bool = _setting(
        True, "objective", "in training draw the targets more often that attacks from an image's class fail to reach"
    )

    stage1_epochs: int = _setting(2, "stages", "epochs with the attacker, at most; 0 skips stage 1", low=0)
    stage2_epochs: int = _setting(38, "stages", "epochs without the attacker, plus those that stage 1 leaves", low=0)
    switch_success: float = _setting(
        0.5,
        "stages",
        "stage 1 ends early once this share of the attacks on the validation split succeeds",
        above=0,
        high=1,
    )
    attack_steps: int = _setting(3, "stages", "gradient steps of the PGD attacker of stage 1", low=1)
    attack_step_size: float | None = _setting(
        None,
        "stages",
        "step size of the PGD attacker, as a fraction of the pixel range",
        above=0,
        high=1,
        if_none="epsilon / 4, or as much more as lets all steps together go 1.5 epsilon",
    )

    generator_width: int | None = _setting(
        None,
        "networks",
        "channels of the generator at full size",
        low=1,
        high=1024,
        if_none="16, 32 above 64 pixels",
    )
    generator_patch: int | None = _setting(
        None,
        "networks",
        "side in pixels of the squares that the generator works on; 4 takes far less time than 1",
        low=1,
        high=16,
        if_none="1, above 64 pixels the first of 2, 4, 8, 16 that leaves at most 64 x 64 squares",
    )
    generator_blocks: int = _setting(1, "networks", "residual blocks of the generator", low=0, high=100)
    class_maps: int = _setting(
        8,
        "networks",
        "channels of a learned map per target class, of up to 32 x 32 pixels, seen beside the image; 0: none",
        low=0,
        high=64,
    )
    gain_maps: bool = _setting(
        True,
        "networks",
        "learn a map of gains per target class, of up to 32 x 32 pixels, for the features before the generator's output",
    )
    classifier_features: bool = _setting(
        False,
        "networks",
        "let the generator see what the classifier's layers make of the clean image; for a classifier that is a Keras model "
        "of layers",
    )
    discriminator_width: int = _setting(
        16,
        "networks",
        "channels of the discriminator's first convolution; each of the next two doubles them",
        low=1,
        high=1024,
    )

    init_from: str | None = _setting(
        None,
        "training",
        "work folder of a finished run, or one of pretrained/, with whose generator's weights this one begins where their "
        "shapes agree",
        if_none="fresh weights",
    )
    steps_per_epoch: int = _setting(
        100, "training", "training steps per epoch; 0: one pass over the training images", low=0
    )
    batch_size: int | None = _setting(
        None,
        "training",
        "images per step",
        low=1,
        if_none="64, 16 above 64 pixels, or all there are",
    )
    epsilon_start: float = _setting(
        2.0,
        "training",
        "budget of the first training step, as a multiple of `epsilon`, to which it falls in the first 1,000 steps, or half of them",
        low=1,
        high=255,
    )
    learning_rate: float | None = _setting(
        None,
        "training",
        "initial learning rate of the generator, on a cosine schedule (Muon for kernels, Adam for the rest)",
        above=0,
        if_none="0.007, 0.002 above 64 pixels",
    )
    discriminator_learning_rate: float = _setting(
        2e-4, "training", "learning rate of the discriminator (Adam)", above=0
    )
    mixed_precision: bool = _setting(
        False,
        "training",
        "compute the convolutions of training steps in bfloat16 on a CPU that supports it, in float16 with loss scaling "
        "on a GPU; evaluation stays in float32",
    )
    seed: int = _setting(0, "training", "seed of every random choice", low=0)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            # As the field's own type: equal values are saved alike, NumPy's numbers as Python's.
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        self._check_epsilon()
        if self.epochs == 0:
            raise InputError(
                0, "at least one epoch in both stages together", "raise it, or `stage2_epochs`", setting="stage1_epochs"
            )
        low, high = self.input_range
        if not low < high:
            raise InputError(self.input_range, "LOW,HIGH with LOW below HIGH", "give e.g. 0,255", setting="input_range")

    def _check_epsilon(self):
        if self.epsilon * 255 < 1 - 1e-4:
            raise InputError(
                self.epsilon,
                "at least 1/255, one grey level, since less changes no 8-bit picture",
                "give e.g. 8/255",
                setting="epsilon",
            )

    @property
    def targeted(self) -> bool:
        return self.attack == "targeted"

    @property
    def step_size(self) -> float:
        """Length of one step of the attacker, as a fraction of the pixel range."""
        if self.attack_step_size is None:
            return self.epsilon * max(1 / 4, 1.5 / self.attack_steps)
        return self.attack_step_size

    def hinge_limit(self, image_shape: tuple[int, int, int]) -> float:
        """Returns c for images of `(height, width, channels)`; None is half of epsilon * sqrt(number of values)."""
        if self.hinge_threshold is None:
            return 0.5 * self.epsilon * math.sqrt(math.prod(image_shape))
        return self.hinge_threshold

    def fitted(self, image_shape: tuple[int, int, int], num_images: int) -> "Config":
        """Returns the settings with a value for all that the images decide and that were not given.

        Up to 64 pixels as measured in short runs on CIFAR-10 and CIFAR-100. Larger images are folded into squares of
        pixels, which saves most of the time. There are fewer in a batch, so that a step is not the slower, and 0.007 as the
        learning rate made the perturbations fade at 160 pixels. The hinge's weight is such that the term at the edge of
        epsilon is the same for every size and epsilon.

        Args:
            image_shape: `(height, width, channels)`.
            num_images: number of training images.
        """
        side = max(image_shape[:2])
        large = side > 64
        values = dict(
            generator_width=32 if large else 16,
            generator_patch=min(2 ** math.ceil(math.log2(side / 64)), 16) if large else 1,
            hinge_weight=0.035 / (self.epsilon * math.sqrt(math.prod(image_shape))),
            batch_size=min(16 if large else 64, num_images),
            learning_rate=2e-3 if large else 7e-3,
        )
        return dataclasses.replace(self, **{name: values[name] for name in FITTED if getattr(self, name) is None})

    @property
    def epochs(self) -> int:
        """Epochs of both stages together; a stage 1 that ends early leaves its epochs to stage 2."""
        return self.stage1_epochs + self.stage2_epochs


def kind_of(field: dataclasses.Field) -> type | types.GenericAlias:
    """Returns the type of a field without None: bool, int, float, str, `tuple[int, int]` or `tuple[float, float]`."""
    options = [kind for kind in typing.get_args(field.type) if kind is not types.NoneType]
    return options[0] if isinstance(field.type, types.UnionType) else field.type


_KINDS = {
    bool: ((bool,), "true or false"),
    int: ((numbers.Integral,), "a whole number"),
    float: ((numbers.Real,), "a number"),
    str: ((str,), "a string"),
}
_PAIRS = {  # with an example
    "image_size": ("two numbers, HEIGHT,WIDTH", "32,32"), "input_range": ("two numbers, LOW,HIGH", "0,255"),
}  # fmt: skip


def _checked(field, value):
    """Returns a value as the field's own type.

    Raises:
        InputError: it is of another type, out of bounds, or none of the choices.
    """
    kind, setting = kind_of(field), field.metadata["setting"]
    if value is None and setting.if_none is not None:
        return None
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        if parts[-1] is ... and isinstance(value, tuple | list) and value:
            parts = parts[:1] * len(value)
        if not isinstance(value, tuple | list) or len(value) != len(parts):
            expected, example = _PAIRS.get(field.name, ("numbers", "0.5,0.5,0.5"))
            fix = f"give e.g. {f'({example}), without quotes' if isinstance(value, str) else example}"
            raise InputError(value, expected, fix, setting=field.name)
        return tuple(
            _checked_one(field.name, setting, part, each, value) for part, each in zip(parts, value, strict=True)
        )
    return _checked_one(field.name, setting, kind, value, value)


def _checked_one(name, setting, kind, value, given):
    def check(ok, expected, fix):
        if not ok:
            raise InputError(given, expected, fix, setting=name)

    accepted, expected = _KINDS[kind]
    default = getattr(Config, name)
    example = "give one" if default is None or isinstance(default, tuple) else f"give e.g. {shown_value(default)}"
    fix = "give one without quotes" if isinstance(value, str) else example
    check(isinstance(value, accepted) and (kind is bool or not isinstance(value, bool)), expected, fix)
    if setting.choices is not None:
        check(value in setting.choices, " or ".join(setting.choices), "choose one of them")
    if kind is str:
        check(value.strip(), "a name or a path", "give one, or leave it out")
    if kind not in (int, float):
        return value
    check(kind is int or _is_finite(value), "a finite number", example)
    value = kind(value)
    high = min(setting.high if setting.high is not None else math.inf, MAX_INT if kind is int else math.inf)
    fix = f"{value:g} grey levels are {value:g}/255" if name == "epsilon" and value > 1 else "lower it"
    check(value <= high, f"at most {high:g}" if high < MAX_INT else f"at most {high}", fix)
    if setting.above is not None:
        check(value > setting.above, f"a number above {setting.above:g}", "raise it")
    if setting.low is not None:
        check(value >= setting.low, f"{setting.low:g} or more", "raise it")
    return value


def _is_finite(value) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


_MNIST = dict(
    classifier="C",
    epsilon=0.3,
    gan_weight=0.002,
    hinge_weight=0.006,
    hard_targets=False,
    attack_step_size=0.15,
    switch_success=0.9,
    mixed_precision=True,
    generator_width=32,
    generator_patch=1,
    generator_blocks=4,
    gain_maps=False,
    max_shift=2,
    batch_size=128,
    epsilon_start=1.0,
    learning_rate=1e-2,
    stage1_epochs=4,
    stage2_epochs=32,
)

# What learns fastest in ten minutes, one block and batches of 64 with maps of gains, ends lower (docs/notebook.md).
_CIFAR = dict(
    classifier="resnet32",
    gan_weight=0.0015,
    flip=True,
    max_shift=2,  # without, a generator learns training images by heart
    attack_step_size=0.0157,  # half of epsilon
    mixed_precision=True,
    batch_size=128,
    epsilon_start=1.0,
    learning_rate=1e-2,
    steps_per_epoch=250,
    stage1_epochs=2,
    stage2_epochs=46,
    generator_width=32,
    generator_patch=1,
    generator_blocks=4,
    gain_maps=False,
)

# Only what differs from the defaults above.
PRESETS = {
    "digits": dict(
        classifier="small",
        epsilon=0.3,
        gan_weight=0.02,
        hinge_weight=0.03,
        hard_targets=False,
        switch_success=0.85,
        attack_steps=10,
        generator_width=32,
        generator_patch=1,
        generator_blocks=4,
        class_maps=0,
        gain_maps=False,
        max_shift=1,
        batch_size=64,
        epsilon_start=1.0,
        learning_rate=1e-2,
        steps_per_epoch=60,  # an epoch's end costs a second: validation, checkpoint, TensorBoard
        stage1_epochs=4,
        stage2_epochs=21,
    ),
    "mnist": {**_MNIST, "switch_success": 0.95, "stage1_epochs": 8, "stage2_epochs": 112},
    # By reasoning from MNIST, not yet measured at this budget. Clothes resemble each other more than digits do, so MNIST's
    # budget says nothing here, and a generator learns in fewer epochs.
    "fashion_mnist": {
        **_MNIST,
        "epsilon": 0.1,
        "attack_step_size": 0.05,  # half of epsilon, like MNIST's
        "gan_weight": 0.003,  # between MNIST's and CIFAR's, as epsilon is
        "hinge_weight": 0.018,  # three times MNIST's, since the norm within epsilon is a third as long
        "stage1_epochs": 2,
        "stage2_epochs": 18,
    },
    "cifar10": {**_CIFAR, "hinge_weight": 0.05},
    "cifar100": {
        **_CIFAR,
        "classifier": "resnet20",
        "hinge_weight": 0.006,
        "class_maps": 16,
        "classifier_features": True,
        "generator_width": 48,
        "generator_blocks": 2,
        "stage1_epochs": 3,
        "stage2_epochs": 79,
    },
}


def make_config(**settings) -> Config:
    """Returns the settings of a run: the data set's preset, with `settings` taking precedence.

    Raises:
        InputError: a value cannot be used.
    """
    name = str(settings.get("dataset", "digits")).split(":")[0]  # mnist:3.0.1 is a version of mnist
    return Config(**{**PRESETS.get(name, {}), **settings})


def attack_kind(name: str) -> tuple[str, int] | None:
    """Returns which of `ATTACKS` a name is, and its N: ("aigan+N", 2) for aigan+2, ("fgsm", 0); None if it is none."""
    numbered = re.fullmatch(r"(.+[+-])([1-9][0-9]{0,2})", name)
    if numbered:
        kind, steps = f"{numbered[1]}N", int(numbered[2])
    else:
        kind, steps = name, 0
    return (kind, steps) if kind in ATTACKS and kind.endswith("N") == bool(numbered) else None


def is_built_in(classifier: str) -> bool:
    """Whether the name is that of a classifier trained here, rather than a file."""
    return classifier.lower() in ARCHITECTURES


def refuse_idle_settings(config: Config) -> None:
    """Refuses settings that would be ignored, and a surrogate that cannot be built.

    Raises:
        InputError: there is one.
    """

    def refuse(name, only_with):
        default = getattr(Config, name)
        if getattr(config, name) != default:
            raise InputError(
                getattr(config, name),
                f"it only with {only_with}",
                f"give `{name}`=false" if default is False else "leave it out",  # a preset may have it
                setting=name,
                problem="has no effect",
            )

    if is_built_in(config.classifier):
        for name in ("input_range", "input_mean", "input_std", "input_channels", "classifier_output", "custom_objects"):
            refuse(name, "a classifier of your own")
    elif not config.defense:
        refuse("classifier_epochs", "a classifier trained here, or with `defense`")
    if not config.targeted:
        refuse("target_classes", "a targeted attack")
    if config.black_box:
        refuse("classifier_features", "a classifier whose layers are known, so without `black_box`")
    if not config.black_box:
        refuse("queries_per_epoch", "`black_box`")
    elif not is_built_in(config.black_box):
        raise InputError(
            config.black_box, f"an architecture, one of {', '.join(ARCHITECTURES)}", "choose one", setting="black_box"
        )
