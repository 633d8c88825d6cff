"""A page in the browser that attacks pictures. From a notebook: `aigan_tf.demo.launch("pretrained/cifar10")`."""

import functools
import hashlib
import logging
import os
import pathlib
import tempfile
import time
from collections.abc import Sequence

import numpy as np
from PIL import Image

from aigan_tf.attack_plan import SHIPPED
from aigan_tf.data import pictures
from aigan_tf.errors import InputError, say
from aigan_tf.exported import ExportInfo, exported_version, read_export_info
from aigan_tf.files import visible_folders, write_bytes

# Read by Gradio on import. Nothing is to be fetched or reported: the page must work without a network.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_RUN_HISTORY", "False")

try:
    import gradio as gr
except ModuleNotFoundError as error:
    raise InputError(
        f"the package {error.name} is not installed",
        "the packages of the extra [demo]",
        "run pip install gradio, or install aigan_tf with its extra: aigan_tf[demo]",
    ) from error

TOP = 3  # answers that are shown
FIRST_TARGET = 3  # not the class of the first test image
# Small pictures are enlarged as squares, so that every pixel is seen.
STYLE = """
.pixels img { image-rendering: pixelated; object-fit: contain; width: 100%; height: 100%; }
#samples, #samples .grid-wrap { height: auto !important; min-height: 0; overflow: hidden; }
#samples .grid-container { grid-template-columns: repeat(5, minmax(0, 1fr)); grid-auto-rows: auto; }
#samples .thumbnail-item { aspect-ratio: 1; }
"""


def find_generators() -> dict[str, ExportInfo]:
    """Returns the generators in pretrained/ beside the package and in runs/ of the current folder, by folder.

    Raises:
        InputError: there is none that can be read.
    """
    found = {}
    for name, root in (("pretrained", SHIPPED), ("runs", pathlib.Path("runs"))):
        for folder in filter(exported_version, visible_folders(root) if root.is_dir() else []):
            try:
                found[f"{name}/{folder.name}"] = read_export_info(folder, "generator")
            except InputError as error:
                say(f"{folder} is left out: it {error.problem}.")
    if not found:
        raise InputError(
            "no generator lies in pretrained/ or runs/",
            "the folder of a finished run, or of an exported SavedModel",
            "train one, or name one with `generator`",
        )
    return found


class Attacks:
    """The callbacks of the page, and the loaded generators.

    Args:
        generators: what can be chosen, by name; the first is loaded.
        custom_objects: Python files that the runs may execute.
    """

    def __init__(self, generators: dict[str, ExportInfo], custom_objects: Sequence[str]):
        from aigan_tf.photo_attack import PictureAttacker  # here: TensorFlow takes seconds, and Gradio may be missing

        self.generators = generators
        self.attacker_of = functools.lru_cache(maxsize=4)(
            lambda name: PictureAttacker(generators[name], custom_objects)
        )
        self.folder = tempfile.TemporaryDirectory(prefix="aigan_tf.")
        self.attacker_of(next(iter(generators)))

    def attack(self, name, picture, target, epsilon):
        """Returns the three images, both answers and a sentence."""
        export = self.generators[name]
        if picture is None or (target is None and export.targeted):
            return None, None, None, None, None, "Choose a picture, or drop one."
        try:
            pixels, changes = pictures.fitted(picture, export.image_shape)
            epsilon = epsilon / 255 if export.variable_epsilon else None
            (result,) = self.attacker_of(name)(pixels[np.newaxis], None if target is None else [target], epsilon)
        except InputError as error:
            return None, None, None, None, None, str(error).replace(f"{pathlib.Path(picture).parent}{os.sep}", "")
        text = result.summary() + (f" The picture: {changes}." if changes else "")
        images = (result.clean, np.round(255 * result.magnified).astype(np.uint8), result.adversarial)
        answers = (_bars(result.clean_answers, export), _bars(result.adversarial_answers, export))
        return *map(self._file, images), *answers, text

    def choose(self, name):
        """Returns the controls and the test images of a generator, and the first of these as the picture."""
        samples = self.samples(name)
        return (*_controls(self.generators[name]), _gallery(samples), samples[0] if samples else gr.skip())

    def samples(self, name) -> list[str]:
        """Returns ten test images: those shipped with the generator, or with one for images that are as grey or coloured."""
        export = self.generators[name]
        shipped = SHIPPED / ("mnist" if export.image_shape[-1] == 1 else "cifar10")
        for folder in (export.path, shipped):
            strip = folder / "samples" / "test_images.png"  # squares side by side
            if strip.is_file():
                pixels = np.atleast_3d(Image.open(strip))
                return list(map(self._file, np.split(pixels, pixels.shape[1] // pixels.shape[0], axis=1)))
        return []

    def _file(self, pixels):
        """Returns a PNG file. Gradio's own would be written again each time, perhaps while the browser reads it."""
        data = pictures.as_png(pixels)
        path = pathlib.Path(self.folder.name) / f"{hashlib.sha256(data).hexdigest()}.png"
        if not path.exists():
            write_bytes(path, data)
        return str(path)


def build_page(generators: dict[str, ExportInfo], custom_objects: Sequence[str] = ()) -> gr.Blocks:
    """Returns the page; arguments as of `Attacks`."""
    attacks = Attacks(generators, custom_objects)
    first = next(iter(generators))
    found = attacks.samples(first)
    with gr.Blocks(title="aigan_tf", analytics_enabled=False, delete_cache=(86400, 86400)) as page:
        gr.Markdown("## AI-GAN: one forward pass, and the classifier answers what you choose")
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                several = len(generators) > 1
                name = gr.Dropdown(
                    list(generators), value=first, label="generator", visible=several, elem_id="generator"
                )
                samples = _gallery(found)
                picture = gr.Image(
                    found[0] if found else None, type="filepath", image_mode=None, format="png", label="picture",
                    height=200, sources=["upload", "clipboard"], elem_id="picture", elem_classes="pixels", buttons=[],
                )  # fmt: skip
                # Gradio would open the file first, and answer a wrong one with a page of text.
                picture.preprocess = lambda file: file and file.path
                target, epsilon = _controls(generators[first])
            with gr.Column(scale=2, min_width=300):
                text = gr.Markdown(elem_id="summary")
                with gr.Row():
                    with gr.Column(min_width=180):
                        clean = _shown("clean")
                        before = gr.Label(num_top_classes=TOP, label="answers", elem_id="before")
                    with gr.Column(min_width=180):
                        added = _shown("perturbation, magnified")
                    with gr.Column(min_width=180):
                        adversarial = _shown("adversarial")
                        after = gr.Label(num_top_classes=TOP, label="answers", elem_id="after")
        inputs, outputs = [name, picture, target, epsilon], [clean, added, adversarial, before, after, text]
        name.input(attacks.choose, name, [target, epsilon, samples, picture]).then(attacks.attack, inputs, outputs)
        samples.select(_chosen, samples, picture)
        changed = [page.load, picture.change, target.input, epsilon.change]
        gr.on(changed, attacks.attack, inputs, outputs, show_progress="hidden", trigger_mode="always_last")
    return page


def _controls(export):
    """Returns the controls that depend on the generator: class and epsilon."""
    classes = [(export.class_names[number], number) for number in export.classes]
    if not export.targeted:
        classes.insert(0, ("the classifier's answer", None))
    first = classes[min(FIRST_TARGET, len(classes) - 1)][1] if export.targeted else None
    levels = max(int(export.epsilon * 255 + 1e-4), 1)
    label = "target" if export.targeted else "label"
    return (
        gr.Dropdown(classes, value=first, label=label, elem_id="target", interactive=True),
        gr.Slider(
            1, levels, value=levels, step=1, label="epsilon, in 1/255", visible=export.variable_epsilon,
            elem_id="epsilon", interactive=True,
        ),
    )  # fmt: skip


def _gallery(found):
    return gr.Gallery(
        found, label="test images", show_label=False, columns=5, height="auto", format="png", allow_preview=False,
        visible=bool(found), elem_id="samples", elem_classes="pixels", buttons=[], object_fit="contain",
        interactive=False,
    )  # fmt: skip


def _chosen(samples, event: gr.SelectData):
    return samples[event.index][0]


def _shown(label):
    gr.Markdown(label)  # Gradio's own label would cover a corner of the image
    return gr.Image(
        label=label, show_label=False, height=256, format="png", image_mode=None, interactive=False,
        elem_classes="pixels", buttons=["download"],
    )  # fmt: skip


def _bars(answers, export):
    if answers is None:
        return None
    return {export.class_names[number]: float(answers[number]) for number in np.argsort(-answers)[:TOP]}


def launch(
    generator: str | os.PathLike | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    custom_objects: Sequence[str] = (),
) -> gr.Blocks:
    """Serves the page, in a notebook below the cell, and returns it; `close()` ends it.

    Args:
        generator: the folder of a run or of a SavedModel; None for all in pretrained/ and runs/.
        host: the address to listen at; 0.0.0.0 lets other machines in.
        port: None for the first that is free from 7860 on.
        custom_objects: Python files that the runs may execute.

    Raises:
        InputError: there is no generator, or the port cannot be used.
    """
    named = generator and {str(generator): read_export_info(generator, "generator")}
    page = build_page(named or find_generators(), custom_objects)
    # Fonts of the system: Gradio's own themes ask Google for theirs.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    try:
        page.launch(
            server_name=host, server_port=port, share=False, quiet=True, show_error=True, prevent_thread_lock=True,
            theme=theme, css=STYLE, footer_links=[], height=900,
        )  # fmt: skip
    except OSError as error:
        raise InputError(
            f"the page cannot be served at {host}:{port or 7860} ({str(error).splitlines()[0]})",
            "a free port of this machine",
            "leave `port` out",
        ) from error
    return page


def serve(generator: str | None, host: str, port: int | None, custom_objects: Sequence[str] = ()) -> None:
    """Serves the page until Ctrl-C; see `launch`."""
    page = launch(generator, host, port, custom_objects)
    say(f"The page is at {page.local_url} - Ctrl-C ends it.")
    logging.getLogger("uvicorn.error").disabled = True  # a page that is open at the end would give a traceback
    try:
        while True:
            time.sleep(1)
    finally:
        page.close(verbose=False)
