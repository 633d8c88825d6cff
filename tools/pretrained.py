"""Makes a folder that can be published of a finished run: its newest export, its classifier if that was trained here, its
numbers, test images to try it on, a picture and a model card. Those in pretrained/ are such folders.

    python tools/pretrained.py runs/cifar10 pretrained/cifar10 --data_dir=data
    python tools/pretrained.py  # only rewrites the cards of pretrained/, after a preset has changed

The exported SavedModel is the only copy of the weights (one of an earlier version is first exported again, by
`python -m aigan_tf export`). The card's numbers come from the run's own files. `python evaluate.py
--workdir=pretrained/cifar10` then works without training. A classifier of your own stays where it is.
"""

import argparse
import json
import pathlib
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from aigan_tf.config import is_built_in
from aigan_tf.exported import ExportInfo, read_export_info
from aigan_tf.files import latest_version, write_bytes, write_json
from tools.markdown import table
from tools.runs import ROOT, Run, classifier_name, command, epsilon_text, minutes, published_settings, read_run

SEALED = ("classifier.keras", "generator")
SHIPPED = ("classifier.keras", "metrics.csv", "report.json")
COLUMNS = 6  # of the picture
NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
# What Hugging Face calls them.
HUB_NAMES = {
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
}


def ship(
    source: pathlib.Path, target: pathlib.Path, data_dir: str | None = None, custom_objects: Sequence[str] = ()
) -> None:
    """Replaces `target` by what a user needs of a run, with digests, test images, a picture and the card."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as temporary:
        folder = pathlib.Path(temporary, target.name)
        folder.mkdir()
        for name in SHIPPED:
            if (source / name).exists():
                shutil.copy(source / name, folder / name)
        shutil.copytree(latest_version(source / "generator"), folder / "generator" / "1")
        config = published_settings(source)
        _bring_classifier(config, folder)
        write_json(folder / "config.json", config)
        seal(folder)
        write_pictures(folder, data_dir, custom_objects)
        write_card(folder, str(target))
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)


def _bring_classifier(config: dict, target: pathlib.Path) -> None:
    """Copies a classifier that another run trained, and names its architecture in the settings."""
    path = pathlib.Path(config["classifier"])
    if path.suffix != ".keras" or is_built_in(config["classifier"]):
        return
    with zipfile.ZipFile(path) as file:
        name = json.loads(file.read("config.json"))["config"]["name"]
    if not name.startswith("classifier_"):
        return
    shutil.copy(path, target / "classifier.keras")
    name = name.removeprefix("classifier_")
    config["classifier"] = name.upper() if len(name) == 1 else name  # the AdvGAN paper's A, B, C
    config.get("digests", {}).pop("classifier", None)


def seal(folder: pathlib.Path) -> None:
    """Records the digests of the shipped models, also of a classifier that was given to the run."""
    from aigan_tf.workdir import Workdir

    for name in SEALED:
        if (folder / name).exists():
            Workdir(folder).seal(folder / name, folder / name)


def write_pictures(folder: pathlib.Path, data_dir: str | None, custom_objects: Sequence[str]) -> None:
    """Writes two PNG files: the first test image of each class, side by side, and what the generator makes of some."""
    import aigan_tf  # noqa: F401 isort: skip (before TensorFlow: it sets oneDNN)
    import numpy as np

    from aigan_tf.data.datasets import load_dataset
    from aigan_tf.data.pictures import as_png
    from aigan_tf.evaluation import figures
    from aigan_tf.photo_attack import PictureAttacker
    from aigan_tf.workdir import Workdir, config_of

    dataset = load_dataset(config_of(Workdir(folder)), data_dir)
    count = dataset.num_classes
    first = dataset.test.take([np.flatnonzero(dataset.test.labels == number)[0] for number in range(count)])
    images = (255 * first.as_float()).round().astype(np.uint8)
    write_bytes(folder / "samples" / "test_images.png", as_png(np.concatenate(images, axis=1)))

    chosen, info = np.unique(np.arange(COLUMNS) * count // COLUMNS), read_export_info(folder, "path")
    classes = [_next_class(info, label) if info.targeted else label for label in chosen.tolist()]
    attacked = PictureAttacker(info, custom_objects)(images[chosen], classes)
    clean = np.float32([each.clean for each in attacked]) / 255
    adversarial = np.float32([each.adversarial for each in attacked]) / 255
    names, epsilon = dataset.class_names, attacked[0].epsilon
    captions = [_caption(names, label, each) for label, each in zip(chosen, attacked, strict=True)]
    png = figures.attack_grid(clean, adversarial, epsilon, captions, f"epsilon {epsilon_text(epsilon)}")
    write_bytes(folder / "samples" / "attacked.png", png)


def _caption(names: Sequence[str], label: int, attacked) -> str:
    target = [f"target: {names[attacked.target]}"] if attacked.targeted else []
    return "\n".join([names[label], *target, f"answer: {names[attacked.adversarial_answers.argmax()]}"])


def _next_class(info: ExportInfo, label: int) -> int:
    """Returns the first class after the label that the generator serves."""
    following = [*range(label + 1, len(info.class_names)), *range(label)]
    return next(number for number in following if number in info.classes)


def write_card(folder: pathlib.Path, name: str | None = None) -> None:
    """Writes the model card of a shipped folder; see `card`."""
    write_bytes(folder / "README.md", card(folder, name).encode())


def card(folder: pathlib.Path, name: str | None = None) -> str:
    """Returns the model card, from the folder's files.

    Args:
        folder: a shipped one.
        name: what the card calls it, a path; None for that in pretrained/.
    """
    run, name = read_run(folder), name or f"pretrained/{folder.name}"
    info = read_export_info(folder, "path")
    epsilon, data_set = epsilon_text(run.config["epsilon"]), NAMES.get(run.data_set, pathlib.Path(run.data_set).name)
    goal = "takes it for a\nchosen target class" if info.targeted else "no longer\ngets it right"
    a_class = f"--{'target' if info.targeted else 'label'}={info.class_names[_example_class(info)]}"
    source = f"{data_set} (TensorFlow Datasets)" if run.data_set in NAMES else data_set
    targets = ", with the next class as the target" if info.targeted else ""
    classes = ", ".join(each if each == str(k) else f"{k} {each}" for k, each in enumerate(info.class_names))
    return f"""{_metadata(run, data_set)}
# AI-GAN generator for {data_set}

Perturbs an image of {data_set} within epsilon {epsilon} so that the classifier {_classifier(run)} {goal}: one pass of a small network. [AI-GAN](https://arxiv.org/abs/2002.02196), trained by `aigan_tf`.

![Test images, what the generator adds to them, magnified, and the results with the classifier's answers](samples/attacked.png)

{_facts(run, folder, name)}
`python evaluate.py --workdir={name}` measures it again. Success counts only images that the classifier
gets right,{_towards(info)} rounded to 8 bits.

## Use

In the repository's root folder, where this folder is `{name}`:

```python
{_snippet(name, info)}
```

Or attack a picture: `python -m aigan_tf attack photo.jpg --generator={name} {a_class}`. Without the
package, `tf.saved_model.load` and TensorFlow Serving load `generator/1`; its signature `serving_default` takes `images`,
float32 in [0, 1], and `{"target_class" if info.targeted else "label"}`, int32.

Classes: {classes}.

## Training and limits

The training split of {source}, of which at most 2,000 images were held out for validation; nothing
was chosen on the test split. The pictures show the first test images of their classes{targets}.

It was trained against this one classifier, and its success against others is not known (`--transfer_to` measures it).
Images must have this data set's size. One seed. It is meant for measuring and improving the robustness of classifiers
you may test.
"""


def _example_class(info: ExportInfo) -> int:
    return info.classes[min(3, len(info.classes) - 1)]


def _classifier(run: Run) -> str:
    name = run.config["classifier"]
    return name if is_built_in(name) else classifier_name(name)


def _towards(info: ExportInfo) -> str:
    """Returns how many targets an image is measured with."""
    if not info.targeted:
        return ""
    if len(info.classes) < len(info.class_names):
        return f" each towards {', '.join(info.class_names[number] for number in info.classes)},"
    return " each towards every other class (of more than twenty classes: ten drawn ones),"


def _metadata(run: Run, data_set: str) -> str:
    """Returns the YAML head that the Hugging Face Hub reads."""
    report, attack, hub_name = run.report, run.report["attack"], HUB_NAMES.get(run.data_set)
    budget = f"L-infinity {epsilon_text(report['epsilon'])}"
    measured = [
        (f"{attack}_success_rate", f"{attack.capitalize()} success rate, {budget}", "success_rate"),
        ("accuracy", "Accuracy of the classifier on clean images", "clean_accuracy"),
    ]
    metrics = "".join(
        f"""
    - type: {kind}
      name: {name}
      value: {100 * report[key]:.2f}"""
        for kind, name, key in measured
    )
    datasets = f"datasets:\n- {hub_name}\n" if hub_name else ""
    name = pathlib.Path(run.data_set).name
    # Not library_name: keras, for which the Hub shows code that loads a single Keras model.
    return f"""---
library_name: tensorflow
license: mit
tags:
- adversarial-attack
- adversarial-examples
- robustness
- gan
- ai-gan
{datasets}metrics:
- {attack}_success_rate
- accuracy
model-index:
- name: aigan_{name}
  results:
  - task:
      type: image-to-image
      name: {attack.capitalize()} adversarial attack
    dataset:
      type: {hub_name or name}
      name: {data_set}
      split: test
    metrics:{metrics}
---
"""


def _facts(run: Run, folder: pathlib.Path, name: str) -> str:
    """Returns the table of the card."""
    config, report, stage1 = run.config, run.report, run.of_stage(1)
    low, high = report["success_interval"]
    brought = (folder / "classifier.keras").exists()
    ran = command(config | {"classifier": f"{name}/classifier.keras"} if brought else config, config["dataset"])
    sizes = ", ".join(
        f"{path.split('.')[0]} {_megabytes(folder / path)} MB" for path in reversed(SEALED) if (folder / path).exists()
    )
    rows = [
        (f"{report['attack']} success", f"{report['success_rate']:.2%} ({low:.2%} to {high:.2%}), "
         f"{report['num_attacks']:,} attacks on {report['num_correct']:,} test images"),
        *([("worst target", f"{report['worst_target']} ({report['worst_target_success_rate']:.2%})")]
          if "worst_target" in report else []),
        ("mean L2", f"{report['mean_l2']:.3f}"),
        ("threat model", f"L-infinity, epsilon {epsilon_text(config['epsilon'])}, pixels in [0, 1]; rounded to 8 bits"),
        ("classifier", f"{_classifier(run)}, {report['clean_accuracy']:.2%} on the whole test split"),
        ("time per image", f"{report['milliseconds_per_image']:.2f} ms in batches of 500 ({report['device']})"),
        ("size", sizes),
        ("training", f"{minutes(run.epochs)} minutes, {report['device']}, seed {config['seed']}"),
    ]  # fmt: skip
    if stage1:
        success, l2 = (
            float(stage1[-1][f"val_{key}"]) for key in (f"{report['attack']}_success_rate", "perturbation_l2")
        )
        rows.append(("end of stage 1 (validation)", f"{success:.1%}, L2 {l2:.3f}"))
    rows.append(("command", f"`{ran}`"))
    rows.append(("versions", ", ".join(f"{key} {version}" for key, version in config["versions"].items())))
    return table(rows[0], rows[1:])


def _megabytes(path: pathlib.Path) -> str:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f}"


def _snippet(name: str, info: ExportInfo) -> str:
    """Returns Python code that attacks the shipped test images."""
    classes = f'"{info.class_names[_example_class(info)]}"' if info.targeted else f"range({len(info.class_names)})"
    count, grey = len(info.class_names), "[..., np.newaxis]" if info.image_shape[-1] == 1 else ""
    shape = ", ".join(map(str, (count, *info.image_shape)))
    return f"""import numpy as np
from PIL import Image

import aigan_tf

strip = np.asarray(Image.open("{name}/samples/test_images.png")){grey}
images = np.stack(np.split(strip, {count}, axis=1))  # uint8 ({shape})
generator = aigan_tf.load_generator("{name}")
adversarial = generator(images, {classes})  # float32 ({shape}) in [0, 1]"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, nargs="?", help="work folder of a finished run")
    parser.add_argument("target", type=pathlib.Path, nargs="?", help="folder to write, such as pretrained/cifar10")
    parser.add_argument("--data_dir", help="folder of TFDS data sets (default: TFDS's own)")
    text = "Python file that the run was trained with; it is executed"
    parser.add_argument("--custom_objects", nargs="*", default=(), help=text)
    given = parser.parse_args()
    if given.source and not given.target:
        parser.error("a source without a target: expected both, or neither to rewrite the cards")
    if given.source:
        ship(given.source, given.target, given.data_dir, given.custom_objects)
        return
    for path in (ROOT / "pretrained").glob("*/config.json"):
        write_card(path.parent)


if __name__ == "__main__":
    main()
