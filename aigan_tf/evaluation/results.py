"""What is reported about one attack, with the meaning of every number."""

import dataclasses

from scipy.stats import binomtest


def wilson_interval(successes: int, trials: int) -> list[float]:
    """Returns the low and the high end of Wilson's 95 % interval for a rate, as if all trials were independent."""
    return list(binomtest(successes, trials).proportion_ci(method="wilson"))


@dataclasses.dataclass(frozen=True)
class AttackResult:
    """How often an attack succeeded on an evaluation set, and how much it changed the images.

    Only images that the classifier gets right are attacked. An attack is one image with one target. It counts as a
    success if the classifier answers the 8-bit adversarial image with the target, or with any class but the label if
    untargeted. Rates are shares in [0, 1]; norms are of pixels in [0, 1], over all attacks, failed ones too, and of 8-bit
    images unless the name says float.

    Args:
        attack: "targeted" or "untargeted".
        split: split of the data set, such as "test".
        seed: decides the drawn targets and the random choices of an attack.
        epsilon: L-infinity budget as a fraction of the pixel range, in (0, 1].
        num_examples: images of the set.
        num_correct: images that the classifier gets right, at least 1.
        clean_accuracy: share of images that the classifier gets right; None if the labels are answers of the classifier.
        num_attacks: attacks measured, at least 1; the denominator of the rates below.
        success_rate: share of attacks that succeed.
        success_interval: low and high end of Wilson's 95 % interval of `success_rate`, as if attacks were independent.
        success_rate_float: share of attacks that succeed before rounding to 8 bits.
        untargeted_success_rate: share of attacks whose image is no longer answered with the label, whatever the target.
        success_by_class: class name to success rate of the attacks with that target (label, if untargeted); None if there
            were no such attacks.
        mean_l2: mean L2 norm of a perturbation.
        mean_l2_of_successes: the same over the successful attacks; None if there were none.
        max_linf: largest change of any pixel.
        max_linf_float: largest change of any pixel before rounding to 8 bits.
        mean_ssim: mean structural similarity of adversarial and clean image, at most 1.
        milliseconds_per_image: median over the batches of an attack's time divided by the batch size.
        worst_target: class name with the lowest rate in `success_by_class`; None if untargeted.
        worst_target_success_rate: that rate; None if untargeted.
        success_matrix: a row per label and a column per target with success rates, None where nothing was attacked;
            None as a whole if untargeted or if there are more than 20 classes.
        drawn_from: how many attacks there were, if these were drawn from them; else None.
        labels: "classifier" if the answers of the classifier that was attacked in training stand in for labels; else None.
    """

    attack: str
    split: str
    seed: int
    epsilon: float
    num_examples: int
    num_correct: int
    clean_accuracy: float | None
    num_attacks: int
    success_rate: float
    success_interval: list[float]
    success_rate_float: float
    untargeted_success_rate: float
    success_by_class: dict[str, float | None]
    mean_l2: float
    mean_l2_of_successes: float | None
    max_linf: float
    max_linf_float: float
    mean_ssim: float
    milliseconds_per_image: float
    worst_target: str | None = None
    worst_target_success_rate: float | None = None
    success_matrix: list[list[float | None]] | None = None
    drawn_from: int | None = None
    labels: str | None = None

    def to_dict(self) -> dict:
        """Returns the fields as in report.json, ready for JSON; accuracy and the last five only if they apply."""
        optional = (
            "clean_accuracy", "worst_target", "worst_target_success_rate", "success_matrix", "drawn_from", "labels",
        )  # fmt: skip
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None or name not in optional}
