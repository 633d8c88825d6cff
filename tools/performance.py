"""The page of docs/results/performance, from the benchmarks' JSON files.

Each section is a function from a benchmark's result to the section's text and its rows in the summary: what was measured,
and the value.
"""

import json
from collections.abc import Iterator

from tools.markdown import table
from tools.runs import RESULTS

FOLDER = RESULTS / "performance"
# Scripts that were removed, and a commit that has them. Their results and sections stay.
REMOVED = {"choices": "step_choices", "pytorch": "pytorch_step", "scaling": "scaling", "streaming": "streaming"}
COMMIT = "77fad19"

Rows = list[tuple[str, ...]]


def _epsilon(result: dict) -> str:
    return f"epsilon {255 * result['epsilon']:.3g}/255"


def attackers_table(attackers: dict) -> str:
    """Returns what attacker_speed.py measured."""
    rows = [
        (name, f"{row['milliseconds_per_image']:.2f}", f"{row['success_rate']:.1%}", f"{row['peak_mib']:.0f}")
        for name, row in attackers.items()
    ]
    return table(("attacker", "ms per image", "targeted success", "peak MiB"), rows)


def attacks_table(attacks: dict) -> str:
    """Returns what generation_speed.py measured."""
    rows = [
        (
            name,
            str(row["batch_size"]),
            f"{row['milliseconds_per_image']:.3f}",
            f"{1000 / row['milliseconds_per_image']:.0f}",
            f"{row['success_rate']:.1%}",
            f"{row['peak_mib']:.0f}",
        )
        for name, row in attacks.items()
    ]
    return table(("attack", "batch", "ms per image", "images per second", "targeted success", "peak MiB"), rows)


def training(result: dict) -> tuple[str, Rows]:
    """A training step and the time of its convolutions."""
    seconds, peaks = result["seconds"], result["peak_mib"]
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
        rows += _floor_rows(result, stage)
    text = (
        f"A step of {result['batch_size']} CIFAR-sized images, ResNet-20, a generator of "
        f"{result['generator_parameters']:,} parameters; forward and backward. The convolutions alone are all those of "
        "the step in one graph, at the best thread setting.\n\n"
    )
    columns = ("", *(f"{name}, ms" for name in seconds), *(f"{name}, peak MiB" for name in peaks))
    return text + table(columns, rows), list(_training_summary(result))


def _floor_rows(result: dict, stage: str) -> Rows:
    """The time of a step's convolutions alone, and the step's time in units of it."""
    precisions = list(result["seconds"])
    floors = [result["floor"][f"{stage}, {name}"]["seconds"] for name in precisions]
    speeds, ratios = (
        [result[key][name][stage] for name in precisions] for key in ("floor_gflops_a_second", "times_the_floor")
    )
    return [
        (f"{stage}: convolutions alone", *(f"{1000 * floor:.1f}" for floor in floors), "", ""),
        (f"{stage}: their GFLOP/s", *(f"{speed:.0f}" for speed in speeds), "", ""),
        (f"{stage}: times its convolutions", *(f"{ratio:.2f}" for ratio in ratios), "", ""),
    ]


def _training_summary(result: dict) -> Iterator[tuple[str, ...]]:
    for stage in result["goals"]:
        for name, times in result["seconds"].items():
            yield f"{stage}, {name}", f"{1000 * times[stage]:.0f} ms"
        for name, ratios in result["times_the_floor"].items():
            yield f"{stage} against its convolutions, {name}", f"{ratios[stage]:.2f} times as long"
    yield "input, share of a stage 2 step", f"{max(result['input_share_of_stage_2_step'].values()):.1%}"


def choices(result: dict) -> tuple[str, Rows]:
    """What each choice of speed is worth: a step's times, and how many times those of the line it changes."""
    lines = result["choices"]
    stages = list(next(iter(lines.values()))["seconds"])
    rows = []
    for name, line in lines.items():
        cells = [
            (f"{1000 * line['seconds'][stage]:.0f}", _ratio(line["seconds"], lines[line["beside"]]["seconds"], stage))
            for stage in stages
        ]
        rows.append((name, *(cell for pair in cells for cell in pair), line["beside"]))
    columns = ("", *(column for stage in stages for column in (f"{stage}, ms", "times")), "of")
    text = (
        "The same step with one choice undone or changed at a time. More than 1 times is slower than the line named "
        "last.\n\n"
    )
    return text + table(columns, rows), []


def _ratio(seconds: dict, others: dict, stage: str) -> str:
    return f"{seconds[stage] / others[stage]:.2f}"


def attacker(result: dict) -> tuple[str, Rows]:
    """The attacker beside other libraries' attacks."""
    text = (
        f"{result['attack_steps']} steps on {result['images']} images, {result['classifier']}, {_epsilon(result)}; the "
        "same compiled classifier for all.\n\n"
    )
    rows = [
        (f"PGD against the fastest of three libraries: {name}", f"{ratio:.2f} times as fast")
        for name, ratio in result["times_as_fast_as_the_fastest_library"].items()
    ]
    return text + attackers_table(result["attackers"]), rows


def generation(result: dict) -> tuple[str, Rows]:
    """The exported generator beside foolbox's attacks."""
    mflop = result["mflop_an_image"]
    text = (
        f"{result['images']} test images, {result['classifier']}, {_epsilon(result)}; foolbox at the fastest of three "
        "batch sizes; C&W counted after a move into epsilon. The generator's convolutions take "
        f"{mflop['generator']:.0f} million operations per image, those of a pass of the classifier "
        f"{mflop['classifier']:.0f}; a step of PGD is a pass and its gradient, about two passes.\n\n"
    )
    rows = [
        (f"foolbox {name} against the generator, per image", f"{ratio:.0f} times as long")
        for name, ratio in result["times_as_long_as_the_generator"].items()
    ]
    return text + attacks_table(result["attacks"]), rows


def pytorch(result: dict) -> tuple[str, Rows]:
    """A stage-2 step beside a PyTorch step."""
    rows = [
        (f"{side} {result[side]['version']}", name, f"{1000 * seconds:.1f}", f"{result[side]['peak_mib'][name]:.0f}")
        for side in ("tensorflow", "pytorch")
        for name, seconds in result[side]["seconds"].items()
    ]
    ratios = []
    for precision in ("float32", "bfloat16"):
        ours = result["tensorflow"]["seconds"][precision]
        theirs = min(time for name, time in result["pytorch"]["seconds"].items() if name.startswith(precision))
        ratios.append((f"stage 2 step against PyTorch's best, {precision}", f"{ours / theirs:.2f} times as long"))
    text = f"A stage-2 step of {result['batch_size']} images, the same networks and losses, ResNet-20.\n\n"
    return text + table(("framework", "precision", "ms", "peak MiB"), rows), ratios


def scaling(result: dict) -> tuple[str, Rows]:
    """Cost and memory against sizes."""
    base, points = result["base"], result["points"]
    rows = [
        (
            _sizes({name: point[name] for name in base if point[name] != base[name]}) or "base",
            *(f"{1000 * seconds / point['batch_size']:.2f}" for seconds in point["seconds"].values()),
            f"{point['peak_mib']:.0f}",
            f"{point['peak_mib_before_the_first_step']:.0f}",
        )
        for point in points
    ]
    times = (f"{name}, ms per image" for name in points[0]["seconds"])
    text = f"ResNet-20, a generator of 16 channels, float32; one size changed at a time from {_sizes(base)}.\n\n"
    return text + table(("changed", *times, "peak MiB", "of which before the first step"), rows), []


def _sizes(sizes: dict) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sizes.items())


def streaming(result: dict) -> tuple[str, Rows]:
    """Reading a data set that is not held in memory."""
    height, width, channels = result["image_shape"]
    moments = {"loaded": result["loaded"]} | {f"epoch {n}": row for n, row in enumerate(result["epochs"], 1)}
    rows = [
        (moment, f"{row['own']:.0f}", f"{row['files']:.0f}", str(row.get("images_per_second", "-")))
        for moment, row in moments.items()
    ]
    place = "on disk" if result["on_disk"] else "in memory"
    text = (
        f"{result['images']:,} images of {height} x {width} x {channels} ({result['pixels_mib']:,} MiB of pixels, kept "
        f"{place}), read in training's batches, without a model: the process's own memory, and the pages of the file, "
        "which the system drops when it needs the room.\n\n"
    )
    return text + table(("", "own MiB", "pages of files, MiB", "images per second"), rows), []


def image_sizes_table(sizes: dict) -> str:
    """Returns what image_sizes.py measured."""
    columns = ("pixels", "squares", "batch", "ms", "its classifier's", "MiB", "ms, features seen", "MiB")
    rows = []
    for side, forms in sizes.items():
        plain, seen = forms["plain"], forms["with_features"]
        cells = [
            f"{1000 * plain['seconds']:.1f}",
            f"{1000 * plain['classifier_seconds']:.1f}",
            f"{plain['peak_mib']:.0f}",
        ]
        cells += [f"{1000 * seen['seconds']:.1f}", f"{seen['peak_mib']:.0f}"]
        rows.append((f"{side} x {side}", str(plain["patch"]), str(plain["batch_size"]), *cells))
    return table(columns, rows)


def image_sizes(result: dict) -> tuple[str, Rows]:
    """What one image with its target costs in stage 2, by the image's size."""
    text = (
        "One image with its target in a stage 2 step, mixed precision: the default settings of each size, MobileNetV2 with "
        f"{result['classes']} classes. The classifier's part is a pass through it and back. The last two columns are with "
        "`--classifier_features`.\n\n"
    )
    return text + image_sizes_table(result["sizes"]), []


def run_steps_table(runs: dict) -> str:
    """Returns what run_steps.py measured."""
    rows = [(name, *(f"{1000 * row[stage]:.0f}" for stage in ("1", "2"))) for name, row in runs.items()]
    return table(("run", "step of stage 1, ms", "step of stage 2, ms"), rows)


SECTIONS = {
    "training": ("Training steps and their floor", training),
    "choices": ("What each choice is worth", choices),
    "attacker": ("The attacker beside other libraries", attacker),
    "generation": ("Generating beside attacking", generation),
    "pytorch": ("A training step beside PyTorch", pytorch),
    "scaling": ("Cost and memory against sizes", scaling),
    "streaming": ("Data larger than memory", streaming),
    "image_sizes": ("Images of other sizes", image_sizes),
}


def _result(name: str) -> dict:
    return json.loads((FOLDER / f"{name}.json").read_text())


def _source(name: str, result: dict) -> str:
    """Returns how a section was measured: the command, and the machine."""
    machine = result["machine"]
    how = f"`{result['command']}`"
    if name in REMOVED:
        how = f"By {REMOVED[name]}.py, since removed (in benchmarks/ at commit {COMMIT} of the git history)"
    versions = f"TensorFlow {machine['tensorflow']}, Keras {machine['keras']}, Python {machine['python']}"
    return f"{how}: {machine['device']} ({machine['processor']}), {versions}."


def page() -> str:
    """Returns docs/results/performance/README.md."""
    parts = [
        "# Performance\n\nOne section per benchmark, each run with nothing else on the machine. Peak MiB is the most "
        "that tensors take at once, beyond those held before (of PyTorch, by how much the process grows).\n",
        f"\n## In short\n\n{summary_table()}",
    ]
    for name, (title, section) in SECTIONS.items():
        result = _result(name)
        parts.append(f"\n## {title}\n\n{_source(name, result)}\n\n{section(result)[0]}")
    return "".join(parts)


def summary_table() -> str:
    """Returns the numbers that sum up each section."""
    rows = [row for name, (_, section) in SECTIONS.items() for row in section(_result(name))[1]]
    return table(("what", "measured"), rows)
