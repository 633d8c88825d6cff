"""What can be wrong with what a user gives, as hypothesis strategies: settings, flags, and files of a folder."""

import json
import os
import pathlib
import shutil

from hypothesis import strategies as st

TEXTS = st.sampled_from(
    ["", " ", "0", "1,1", "nan", "None", "\u0663", "1\uff16,16", "\n", "a\nb", "\u202e", "e\u0301", "\ud800", "x" * 300, "x" * 5000,
     "folder", "folder/file.txt", "loop", "loop/run", "nowhere.keras", "8,8", "9,16", "99999,99999", "0,255", "-1,1"]
) | st.text(max_size=12)  # fmt: skip
NUMBERS = (
    st.sampled_from([0, -1, 1, 2, 1000, 2**31 - 1, 2**31, 2**63, 2**64, -(2**63), 10**400])
    | st.integers(-3, 40)
    | st.floats(0, 1)
    | st.floats()
)
VALUES = TEXTS | NUMBERS | st.none() | st.booleans() | st.lists(st.integers(), max_size=3) | st.just({"a": {}})


def configs(config: dict, names: list[str]) -> st.SearchStrategy[bytes]:
    """Returns a strategy of what may lie in place of config.json.

    Args:
        config: what is right.
        names: the settings in it that are worth changing.
    """
    whole = json.dumps(config, indent=2).encode()
    changed = st.dictionaries(st.sampled_from([*names, "digests"]), VALUES, min_size=1, max_size=3)
    values = st.one_of(
        changed.map(lambda new: {**config, **new}),
        changed.map(lambda new: {**config, **new}),  # twice: most can be wrong here
        st.lists(st.sampled_from(names), min_size=1, max_size=4).map(
            lambda gone: {name: value for name, value in config.items() if name not in gone}
        ),
        st.dictionaries(st.text(max_size=8), VALUES, min_size=1, max_size=3).map(lambda new: {**new, **config}),
        VALUES,
    )
    encodings = st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "cp500", "utf-7"])
    odd = [b"", b"[]", b"{}", b"[" * 100_000, b"\0" * 100, b'{"epsilon":' + b"9" * 5000 + b"}"]
    return st.one_of(
        values.map(lambda value: json.dumps(value).encode()),
        values.map(lambda value: json.dumps(value).encode()),
        damages(len(whole)).map(lambda damage: damage(whole)),
        encodings.map(lambda encoding: whole.decode().encode(encoding)),
        st.sampled_from(odd),
    )


def flags(names: list[str], others: dict[str, list[str]]) -> st.SearchStrategy[list[str]]:
    """Returns a strategy of command lines.

    Args:
        names: the flags there are.
        others: flag to some values that only it is likely to take.
    """
    number = NUMBERS.map(str) | st.sampled_from(["0x" + "f" * 5000, "1e-400", "1_0", "-inf", "1e3", "\u0663", "08"])
    boolean = st.sampled_from(["true", "False", "0", "yes", "on"])

    def flag(name):
        own = [st.sampled_from(others[name])] * 2 if name in others else []
        value = st.one_of(TEXTS, number, number, boolean, *own).filter(is_local)
        return st.one_of(
            value.map(lambda text: f"--{name}={text}"), value.map(lambda text: f"--{name}={text}"),
            st.sampled_from([f"--{name}", f"--no{name}", f"-{name}", f"--{name}x=1", f"--{name[:-1]}=1", f"{name}=1"]),
        )  # fmt: skip

    likely = st.sampled_from(names).flatmap(flag)
    return st.lists(likely, min_size=1, max_size=3)


def is_local(text: str) -> bool:
    """Whether a path would lie below the current folder and can be said on a command line."""
    return not text.startswith(("/", "~")) and ".." not in text and "\0" not in text


def damages(size: int) -> st.SearchStrategy:
    """Returns a strategy of functions from bytes (about `size` of them) to damaged ones."""
    places = st.integers(0, max(size - 1, 0))

    def flipped(bits):
        def flip(data):
            data = bytearray(data)
            for place, bit in bits:
                if place < len(data):
                    data[place] ^= 1 << bit
            return bytes(data)

        return flip

    flips = st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=4, unique=True).map(flipped)
    cuts = places.map(lambda length: lambda data: data[:length])
    holes = st.tuples(places, st.integers(1, 64)).map(
        lambda hole: lambda data: data[: hole[0]] + bytes(hole[1]) + data[hole[0] + hole[1] :]
    )
    others = st.sampled_from([b"", b"text, not what the name says\n", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x89PNG"])
    return st.one_of(flips, flips, cuts, holes, others.map(lambda text: lambda data: text))


def broken_folders(folder: pathlib.Path, patterns: list[str]) -> st.SearchStrategy:
    """Returns a strategy of `(text, function)`: what is done to a copy of a folder, and the function that does it.

    Args:
        folder: how it is before.
        patterns: which of its files to damage, as `glob` takes them, each as likely as the others.
    """

    def files(pattern):
        names = sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))
        return st.sampled_from(names).flatmap(one)

    def one(name):
        size = (folder / name).stat().st_size if (folder / name).is_file() else 0
        if not size:
            return structure(name)
        return st.one_of(damages(size).map(lambda damage: content(name, damage)), structure(name))

    def content(name, damage):
        def write(copy):
            data = (copy / name).read_bytes()
            (copy / name).unlink()  # first: it is a link to the whole file
            (copy / name).write_bytes(damage(data))

        return f"{name} damaged", write

    def structure(name):
        kinds = {"removed": None, "a folder": pathlib.Path.mkdir, "a text": lambda path: path.write_text("text\n"),
                 "a loop": lambda path: path.symlink_to(path.name), "a link to its folder": lambda path: path.symlink_to(".")}  # fmt: skip

        def change(kind, copy):
            remove(copy / name)
            if kinds[kind]:
                kinds[kind](copy / name)

        def swap(other, copy):
            remove(copy / name)
            if (folder / other).is_dir():
                shutil.copytree(folder / other, copy / name)
            else:
                shutil.copy(folder / other, copy / name)

        everything = sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern))
        replaced = st.sampled_from(list(kinds)).map(lambda kind: (f"{name} is {kind}", lambda copy: change(kind, copy)))
        swapped = st.sampled_from(everything).map(lambda other: (f"{name} is {other}", lambda copy: swap(other, copy)))
        return replaced | swapped

    return st.sampled_from(patterns).flatmap(files)


def remove(path: pathlib.Path) -> None:
    """Removes a file or a folder with what is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        os.unlink(path)
