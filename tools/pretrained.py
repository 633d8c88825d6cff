"""Ships a finished run under pretrained/: its work folder without checkpoints, logs and the images of stage 1, with test
images to try it on and a model card.

    python tools/pretrained.py runs/cifar10 pretrained/cifar10 --data_dir=data
    python tools/pretrained.py  # only rewrites the cards of pretrained/, after a preset has changed

The card's numbers come from the run's own files. `python evaluate.py --workdir=pretrained/cifar10` then works without
training.
"""

import argparse
import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aigan_tf.config import is_built_in
from aigan_tf.files import write_bytes, write_json
from tools.runs import ROOT, command, epsilon_text, minutes, read_run

SEALED = ("classifier.keras", "generator", "generator.weights.h5", "generator_stage1.weights.h5")
SHIPPED = (*SEALED, "metrics.csv", "report.json", "report.html", "samples/stage2.png")


def ship(source: pathlib.Path, target: pathlib.Path, data_dir: str | None) -> None:
    """Copies what a user needs, the classifier too, and adds digests, test images and the card."""
    target.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "config.json").read_text())
    config.pop("data_dir", None)  # of this machine
    if not is_built_in(config["classifier"]):
        _bring_classifier(config, target)
    write_json(target / "config.json", config)
    for name in SHIPPED:
        if (source / name).is_dir():
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copy(source / name, target / name)
    seal(target)
    write_test_images(target, data_dir)
    write_card(target)


def _bring_classifier(config: dict, target: pathlib.Path) -> None:
    """Copies a classifier trained by this project in another run, and names its architecture in the settings."""
    import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
    import keras

    path = pathlib.Path(config["classifier"])
    if path.resolve() != (target / "classifier.keras").resolve():
        shutil.copy(path, target / "classifier.keras")
    model = keras.models.load_model(target / "classifier.keras", compile=False)
    name = model.name.removeprefix("classifier_")
    config["classifier"] = name.upper() if len(name) == 1 else name  # the AdvGAN paper's A, B, C
    config.get("digests", {}).pop("classifier", None)


def seal(folder: pathlib.Path) -> None:
    """Records the digests of the shipped files, also of a classifier that was given to the run."""
    from aigan_tf.workdir import Workdir

    shipped = Workdir(folder)
    shipped.digests.unlink(missing_ok=True)  # they may be those of files shipped before
    for name in SEALED:
        shipped.seal(folder / name, folder / name)


def write_test_images(folder: pathlib.Path, data_dir: str | None) -> None:
    """Puts the first test image of each class side by side, in the order of the classes, into one PNG file."""
    import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
    import numpy as np
    import tensorflow as tf

    from aigan_tf.data.datasets import load_dataset
    from aigan_tf.workdir import Workdir, config_of

    dataset = load_dataset(config_of(Workdir(folder)), data_dir)
    first = [np.flatnonzero(dataset.test.labels == number)[0] for number in range(dataset.num_classes)]
    strip = np.concatenate(dataset.test.images[first], axis=1)
    write_bytes(folder / "samples" / "test_images.png", tf.io.encode_png(strip).numpy())


def write_card(folder: pathlib.Path) -> None:
    """Writes the model card of a shipped folder."""
    write_bytes(folder / "README.md", card(folder).encode())


def card(folder: pathlib.Path) -> str:
    """Returns the model card, from the folder's files."""
    run = read_run(folder)
    config, report, stage1 = run.config, run.report, run.of_stage(1)[-1]
    low, high = report["success_interval"]
    worst = f"{report['worst_target']} ({report['worst_target_success_rate']:.2%})"
    ran = command(config | {"classifier": f"pretrained/{folder.name}/classifier.keras"}, config["dataset"])
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    return f"""# {config["dataset"]}: a trained generator

A targeted AI-GAN generator against the classifier {config["classifier"]}, as `train.py` left it; `python evaluate.py
--workdir=pretrained/{folder.name}` measures it again.

| | |
|---|---|
| command | `{ran}` |
| classifier | {config["classifier"]}, {report["clean_accuracy"]:.2%} on the whole test split |
| threat model | L-infinity, epsilon {epsilon_text(config["epsilon"])}, pixels in [0, 1]; images rounded to 8 bits |
| targeted success | **{report["success_rate"]:.2%}** ({low:.2%} to {high:.2%}), {report["num_attacks"]:,} attacks on {report["num_correct"]:,} test images |
| worst target | {worst} |
| mean L2 | {report["mean_l2"]:.3f} |
| end of stage 1 (validation) | {float(stage1["val_targeted_success_rate"]):.1%}, L2 {float(stage1["val_perturbation_l2"]):.3f} |
| training of the generator | {minutes(run.epochs)} minutes, {report["device"]}, seed {config["seed"]} |
| versions | {versions} |

Data: the training split of {config["dataset"]} (TensorFlow Datasets), of which at most 2,000 images were held out for
validation; nothing was chosen on the test split. `samples/test_images.png` holds the first test image of each class, to
try it on. Success counts only images the classifier gets right, each towards every other class (of more than twenty
classes: ten drawn ones).

Limits: it was trained against this one classifier, and its success against others is not known (`--transfer_to`
measures it); images must have this data set's size and lie in [0, 1]; one seed. It is meant for measuring and improving
the robustness of classifiers you may test.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, nargs="?", help="work folder of a finished run")
    parser.add_argument("target", type=pathlib.Path, nargs="?", help="folder to write, such as pretrained/cifar10")
    parser.add_argument("--data_dir", help="folder of TFDS data sets (default: TFDS's own)")
    given = parser.parse_args()
    if given.source and not given.target:
        parser.error("a source without a target: expected both, or neither to rewrite the cards")
    if given.source:
        ship(given.source, given.target, given.data_dir)
        return
    for path in (ROOT / "pretrained").glob("*/config.json"):
        write_card(path.parent)


if __name__ == "__main__":
    main()
