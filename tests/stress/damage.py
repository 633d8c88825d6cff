"""Wrong inputs of a user as hypothesis strategies: a config.json, a command line, a damaged file in a folder."""

import json
import os
import pathlib
import shutil

from hypothesis import strategies as st

TEXTS = st.sampled_from(
    ["", " ", "0", "1,1", "nan", "None", "\u0663", "1\uff16,16", "\n", "a\nb", "\u202e", "e\u0301", "\ud800", "x" * 300, "x" * 5000,
     "folder", "folder/file.txt", "loop", "loop/run", "nowhere.keras", "8,8", "9,16", "99999,99999", "0,255", "-1,1"]
) | st.text(max_size=12)  # fmt: skip
SPECIAL = st.sampled_from([0, -1, 1, 2, 1000, 2**31 - 1, 2**31, 2**63, 2**64, -(2**63), 10**400])
NUMBERS = SPECIAL | st.integers(-3, 40) | st.floats(0, 1) | st.floats()
JSON_VALUES = TEXTS | NUMBERS | st.none() | st.booleans() | st.lists(NUMBERS, max_size=3) | st.just({"a": {}})
ODD_NUMBERS = st.sampled_from(
    ["0x" + "f" * 5000, "1e-400", "1_0", "-inf", "1e3", "٣", "08", "8/255", "1/0", "1/2/3"]
)  # fmt: skip
ODD_JSON = [b"", b"[]", b"{}", b"[" * 100_000, b"\0" * 100, b'{"epsilon":' + b"9" * 5000 + b"}"]
ENCODINGS = ["utf-8-sig", "utf-16", "utf-32", "cp500", "utf-7"]
BEGINNINGS = [b"", b"text, not what the name says\n", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x89PNG"]
REPLACEMENTS = {
    "removed": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a text": lambda path: path.write_text("text\n"),
    "a loop": lambda path: path.symlink_to(path.name),
    "a link to its folder": lambda path: path.symlink_to("."),
}


def configs(config: dict, names: list[str]) -> st.SearchStrategy[bytes]:
    """What may be in place of a config.json with the given content and settings."""
    right = json.dumps(config, indent=2)
    values = st.dictionaries(st.sampled_from([*names, "digests"]), JSON_VALUES, min_size=1, max_size=3)
    changed = values.map(lambda new: config | new)
    gone = st.lists(st.sampled_from(names), min_size=1, max_size=4)
    removed = gone.map(lambda names: {name: value for name, value in config.items() if name not in names})
    added = st.dictionaries(st.text(max_size=8), JSON_VALUES, min_size=1, max_size=3).map(lambda new: new | config)
    values = st.one_of(changed, changed, changed, removed, added, JSON_VALUES).map(
        lambda value: json.dumps(value).encode()
    )
    odd = st.sampled_from([*ODD_JSON, *(right.encode(encoding) for encoding in ENCODINGS)])
    return st.one_of(values, values, damaged_bytes(right.encode()), odd)


@st.composite
def command_lines(draw, names: list[str], likely: dict[str, list[str]]) -> list[str]:
    """Up to three of a command's flags, some with likely values."""
    arguments = []
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=3)):
        own = [st.sampled_from(likely[name])] * 3 if name in likely else []
        number = NUMBERS.map(str) | ODD_NUMBERS
        value = draw(st.one_of(TEXTS, number, number, st.sampled_from(["true", "False", "yes"]), *own).filter(is_local))
        spellings = [f"--{name}", f"--no{name}", f"-{name}", f"--{name}x=1", f"--{name[:-1]}=1", f"--no{name}={value}"]
        arguments.append(draw(st.just(f"--{name}={value}") | st.sampled_from([f"--{name}={value}", *spellings])))
    return arguments


def is_local(text: str) -> bool:
    """Whether a path is below the current folder, and possible on a command line."""
    return not text.startswith(("/", "~")) and ".." not in text and "\0" not in text


@st.composite
def damaged_bytes(draw, data: bytes) -> bytes:
    """The bytes with some bits flipped, cut off, with a hole of zeros, or replaced."""
    place, hole = draw(st.integers(0, len(data) - 1)), draw(st.integers(1, 64))
    flipped = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        flipped[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    with_hole = data[:place] + bytes(hole) + data[place + hole :]
    beginning = draw(st.sampled_from(BEGINNINGS))
    return draw(st.sampled_from([bytes(flipped), bytes(flipped), data[:place], with_hole, beginning]))


@st.composite
def damaged_folders(draw, folder: pathlib.Path, patterns: list[str]) -> tuple:
    """A description of a damage to one entry of a folder, and the function that does it to a copy of the folder.

    The patterns of entries, for `glob`, are equally likely.
    """
    entries = (sorted(path.relative_to(folder) for path in folder.glob(pattern)) for pattern in patterns)
    names = st.one_of(*map(st.sampled_from, entries))
    name = draw(names)
    original = folder / name
    ways = [*REPLACEMENTS, "another"]
    if original.is_file() and original.stat().st_size:
        ways += ["damaged"] * len(ways)
    way = draw(st.sampled_from(ways))
    if way == "damaged":
        data = draw(damaged_bytes(original.read_bytes()))
        return f"{name} is damaged", lambda copy: replace(copy / name, lambda path: path.write_bytes(data))
    if way == "another":
        other = draw(names)
        take = shutil.copytree if (folder / other).is_dir() else shutil.copy
        return f"{name} is {other}", lambda copy: replace(copy / name, lambda path: take(folder / other, path))
    return f"{name} is {way}", lambda copy: replace(copy / name, REPLACEMENTS[way])


def replace(path: pathlib.Path, write) -> None:
    """Removes a file or folder, then calls `write` with its path: a copy is a hard link to the original."""
    remove(path)
    write(path)


def remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        os.unlink(path)
