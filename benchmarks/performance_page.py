"""Writes docs/results/performance/README.md and the README's table of speed from the benchmarks' JSON files.

python benchmarks/performance_page.py
"""

import json

import page_tables

from aigan_tf.files import write_bytes

FOLDER = page_tables.ROOT / "docs" / "results" / "performance"
BEGIN, END = "<!-- performance: written by benchmarks/performance_page.py -->", "<!-- end of performance -->"


def load(name: str) -> dict | None:
    """Returns a benchmark's result, or None where it was not run."""
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def verdict(value: float, goal: float, at_least: bool = True) -> str:
    """Returns whether a goal is met, in words."""
    return "met" if (value >= goal if at_least else value <= goal) else "missed"


def training(result: dict) -> tuple[str, list[tuple[str, ...]]]:
    """Returns the page's section on a training step, and its lines for the README."""
    seconds, floors = result["seconds"], result["floor"]
    peaks = result["peak_mib"]
    rows = [
        (
            part,
            *(f"{1000 * times[part]:.1f}" for times in seconds.values()),
            *(f"{mib[part]:.0f}" for mib in peaks.values()),
        )
        for part in seconds["float32"]
    ]
    rows.append(("input, one batch", *[f"{1000 * result['input_seconds']:.1f}"] * len(seconds), "", ""))
    for stage in result["goals"]:
        best = [floors[f"{stage}, {name}"] for name in seconds]
        speeds, ratios = result["floor_gflops_a_second"], result["times_the_floor"]
        for what, values in (
            ("convolutions alone", (f"{1000 * floor['seconds']:.1f}" for floor in best)),
            ("their GFLOP/s", (f"{speeds[name][stage]:.0f}" for name in seconds)),
            ("times its convolutions", (f"{ratios[name][stage]:.2f}" for name in seconds)),
        ):
            rows.append((f"{stage}: {what}", *values, "", ""))
    text = (
        f"A step of {result['batch_size']} CIFAR-sized images, ResNet-20, a generator of {result['generator_parameters']:,} "
        "parameters; forward and backward. The convolutions alone are every one of the step in one graph, at the best "
        "thread setting.\n\n"
        + page_tables.table(("", *(f"{name}, ms" for name in seconds), *(f"{name}, peak MiB" for name in peaks)), rows)
    )
    short = []
    for stage, goal in result["goals"].items():
        for name in seconds:
            time = seconds[name][stage]
            short.append(
                (f"{stage}, {name}", f"{1000 * time:.0f} ms", f"{1000 * goal:.0f} ms", verdict(time, goal, False))
            )
        for name in seconds:
            ratio, most = result["times_the_floor"][name][stage], result["floor_goal"]
            short.append(
                (
                    f"{stage} against its convolutions, {name}",
                    f"{ratio:.2f} times",
                    f"{most} times",
                    verdict(ratio, most, False),
                )
            )
    share = max(result["input_share_of_stage_2_step"].values())
    short.append(("input, share of a stage 2 step", f"{share:.1%}", "3 %", verdict(share, 0.03, False)))
    return text, short


def attacker(result: dict) -> tuple[str, list[tuple[str, ...]]]:
    """As `training`, on the attacker beside other libraries'."""
    text = (
        f"{result['attack_steps']} steps on {result['images']} images, {result['classifier']}, epsilon "
        f"{255 * result['epsilon']:.3g}/255; the same compiled classifier for all.\n\n"
        + page_tables.attackers(result["attackers"])
    )
    goal = result["goal"]
    return text, [
        (
            f"PGD against the fastest of three libraries: {name}",
            f"{ratio:.2f} times as fast",
            f"{goal} times",
            verdict(ratio, goal),
        )
        for name, ratio in result["times_as_fast_as_the_fastest_library"].items()
    ]


def generation(result: dict) -> tuple[str, list[tuple[str, ...]]]:
    """As `training`, on the exported generator beside foolbox's attacks."""
    mflop = result["mflop_an_image"]
    text = (
        f"{result['images']} test images, {result['classifier']}, epsilon {255 * result['epsilon']:.3g}/255; foolbox at the fastest "
        "of three batch sizes; C&W counted after a move into epsilon. The generator's convolutions take "
        f"{mflop['generator']:.0f} million operations an image, those of a pass of the classifier {mflop['classifier']:.0f}; a step of "
        "PGD is a pass and its gradient, about two passes.\n\n" + page_tables.attacks(result["attacks"])
    )
    short = [
        (f"foolbox {name} against the generator, an image", f"{ratio:.0f} times as long",
         *((f"{result['goals'][name]} times", verdict(ratio, result["goals"][name])) if name in result["goals"] else ("-", "-")))
        for name, ratio in result["times_as_long_as_the_generator"].items()
    ]  # fmt: skip
    return text, short


def pytorch(result: dict) -> tuple[str, list[tuple[str, ...]]]:
    """As `training`, on a stage-2 step beside PyTorch's."""
    rows = [
        (f"{side} {result[side]['version']}", name, f"{1000 * seconds:.1f}", f"{result[side]['peak_mib'][name]:.0f}")
        for side in ("tensorflow", "pytorch")
        for name, seconds in result[side]["seconds"].items()
    ]
    failed = "".join(f"\n{name} failed: {reason}.\n" for name, reason in result["pytorch"]["failed"].items())
    text = (
        f"A stage-2 step of {result['batch_size']} images, the same networks and losses, ResNet-20.\n\n"
        + page_tables.table(("framework", "precision", "ms", "peak MiB"), rows)
        + failed
    )
    short = []
    for precision in ("float32", "bfloat16"):
        ours = result["tensorflow"]["seconds"][precision]
        theirs = min(time for name, time in result["pytorch"]["seconds"].items() if name.startswith(precision))
        short.append(
            (f"stage 2 step against PyTorch's best, {precision}", f"{ours / theirs:.2f} times as long", "1 times",
             verdict(ours / theirs, 1.0, False))
        )  # fmt: skip
    return text, short


def scaling(result: dict) -> tuple[str, list[tuple[str, ...]]]:
    """As `training`, on cost and memory against sizes; nothing of it is a goal."""
    rows = []
    for point in result["points"]:
        changed = ", ".join(
            f"{name.replace('_', ' ')} {point[name]}" for name in result["base"] if point[name] != result["base"][name]
        )
        per_image = (f"{1000 * seconds / point['batch_size']:.2f}" for seconds in point["seconds"].values())
        rows.append(
            (
                changed or "base",
                *per_image,
                f"{point['peak_mib']:.0f}",
                f"{point['peak_mib_before_the_first_step']:.0f}",
            )
        )
    base = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result["base"].items())
    names = result["points"][0]["seconds"]
    text = (
        f"ResNet-20, a generator of 16 channels, float32; one thing changed at a time from {base}.\n\n"
        + page_tables.table(
            ("changed", *(f"{name}, ms an image" for name in names), "peak MiB", "of which before the first step"), rows
        )
    )
    return text, []


def choices(result: dict) -> tuple[str, list[tuple[str, ...]]]:
    """As `training`, on what each choice of speed is worth; nothing of it is a goal."""
    text = (
        "The same step with one choice undone or changed at a time; more than 1 times is slower than the line named last.\n\n"
        + page_tables.choices(result["choices"])
    )
    return text, []


def streaming(result: dict) -> tuple[str, list[tuple[str, ...]]]:
    """As `training`, on reading a data set that is not held in memory."""
    height, width, channels = result["image_shape"]
    rows = [
        (when, f"{row['own']:.0f}", f"{row['files']:.0f}", str(row.get("images_per_second", "-")))
        for when, row in (
            ("loaded", result["loaded"]),
            *((f"epoch {number}", row) for number, row in enumerate(result["epochs"], 1)),
        )
    ]
    where = "on disk" if result["on_disk"] else "in memory"
    text = (
        f"{result['images']:,} images of {height} x {width} x {channels} ({result['pixels_mib']:,} MiB of pixels, kept {where}), read "
        "in training's batches, without a model; the process's own memory, and the pages of the file, which the system "
        "drops when it needs the room.\n\n"
        + page_tables.table(("", "own MiB", "pages of files, MiB", "images a second"), rows)
    )
    return text, []


SECTIONS = {
    "training": ("Training steps and their floor", training),
    "choices": ("What each choice is worth", choices),
    "attacker": ("The attacker beside other libraries", attacker),
    "generation": ("Generating beside attacking", generation),
    "pytorch": ("A training step beside PyTorch", pytorch),
    "scaling": ("Cost and memory against sizes", scaling),
    "streaming": ("Data larger than memory", streaming),
}


def pages() -> tuple[str, str]:
    """Returns the page of docs/results/performance and the README's table."""
    page = (
        "# Performance\n\nEach section is of one script under `benchmarks/`, run with nothing else on the machine. Peak MiB "
        "is the most that tensors take at once, beyond those held before (of PyTorch, by how much the process grows).\n"
    )
    short = []
    for name, (title, section) in SECTIONS.items():
        result = load(name)
        if result is None:
            continue
        text, lines = section(result)
        machine = result["machine"]
        page += (
            f"\n## {title}\n\n`{result['command']}`: {machine['device']} ({machine['processor']}), TensorFlow "
            f"{machine['tensorflow']}, Keras {machine['keras']}, Python {machine['python']}.\n\n{text}"
        )
        short += lines
    return page, page_tables.table(("what", "measured", "goal", ""), short)


def main():
    page, short = pages()
    write_bytes(FOLDER / "README.md", page.encode())
    page_tables.into_page("README.md", BEGIN, END, short)


if __name__ == "__main__":
    main()
