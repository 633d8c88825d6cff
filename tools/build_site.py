"""Builds the site in build/site: the project's pages, its notebooks and an API reference, readable without a network.

python tools/build_site.py

Each link on a page must lead to a file, folder or heading of the project. What is linked is on the site as well:
notebooks, folders and files of Python as pages, other files as they are.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import nbconvert

ROOT = pathlib.Path(__file__).parents[1]
PAGES = (
    "*.md",
    "docs/*.md",
    "docs/api/*.md",
    "docs/guide/*.md",
    "docs/results/README.md",
    "docs/results/*/*.md",
    "pretrained/*/*.md",
    "notebooks/*.ipynb",
)
STAGED = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
CODE_OR_LINK = re.compile(r"^```.*?^```$|`[^`]+`|(?<=\]\()(?!https?:)[^)#\s]+", re.DOTALL | re.MULTILINE)
NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def staged(path: pathlib.Path) -> pathlib.Path:
    """Returns where a file or folder of the project is on the site."""
    name = path.relative_to(ROOT)
    if path.is_dir():
        name /= "README.md" if (path / "README.md").exists() else "index.md"
    elif path.suffix == ".py":
        name = name.with_name(f"{name.name}.md")
    elif path.suffix == ".ipynb":
        name = name.with_suffix(".md")
    return STAGED / name


def page_of(path: pathlib.Path) -> str | None:
    """Returns what the site shows of a file or folder, as Markdown; None for a file that is copied."""
    title = f"{NOT_SEARCHED}# {path.relative_to(ROOT)}\n\n"
    if path.is_dir():
        files = (file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file())
        return title + "".join(f"- [{file}]({file})\n" for file in files)
    if path.suffix == ".py":
        return f"{title}```python\n{path.read_text()}```\n"
    if path.suffix == ".ipynb":
        text, resources = nbconvert.MarkdownExporter().from_filename(str(path), {"unique_key": path.stem})
        for name, picture in resources["outputs"].items():
            (staged(path).parent / name).write_bytes(picture)
        return text
    return path.read_text() if path.suffix == ".md" else None


def stage(path: pathlib.Path) -> set[pathlib.Path]:
    """Writes a file or folder to its place on the site, and returns what it links to."""
    if path.is_dir() and (path / "README.md").exists():
        return {path / "README.md"}
    place, linked = staged(path), set()
    folder = path if path.is_dir() else path.parent

    def relinked(match):
        target = pathlib.Path(os.path.normpath(folder / match[0]))
        if match[0].startswith("`"):
            return match[0]
        if target.exists():
            linked.add(target)
            return os.path.relpath(staged(target), place.parent)
        if (place.parent / match[0]).exists():  # a notebook's picture
            return match[0]
        sys.exit(f"{path.relative_to(ROOT)} links to {match[0]}, which does not exist")

    place.parent.mkdir(parents=True, exist_ok=True)
    page = page_of(path)
    if page is None:
        shutil.copy(path, place)
    else:
        place.write_text(CODE_OR_LINK.sub(relinked, page))
    return linked


def main() -> None:
    for folder in (STAGED, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    found, staged_already = {path for pattern in PAGES for path in ROOT.glob(pattern)}, set()
    while found:
        staged_already |= found
        found = set().union(*map(stage, found)) - staged_already
    shutil.copytree(ROOT / "tools" / "site", STAGED, dirs_exist_ok=True)
    command = ["zensical", "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(built.stdout, end="")
    if built.returncode or "griffe: " in built.stdout:  # Zensical does not count the warnings on docstrings
        sys.exit("The site has errors.")
    print(f"Open {SITE / 'index.html'}")


if __name__ == "__main__":
    main()
