"""What mkdocs does beside rendering: fills the markers of a page, and lists decisions and benchmarks in the navigation.

`<!-- generated: recipe -->` becomes the text of a function of this folder. `<!-- include: DESIGN.md -->` becomes a file
of the project without its title, with its links from where it is shown.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from docs.gen import calls, decisions, recipe, tables

ROOT = Path(__file__).resolve().parents[2]
MARKER = re.compile(r"<!-- (generated|include): (\S+) -->\n(?:<!-- [^>]*-->\n)?")
GENERATED: dict[str, Callable[[], str]] = {
    "recipe": recipe.page,
    "artifacts": tables.artifacts,
    "warnings": tables.warnings,
    "errors": tables.errors,
    "cli": calls.command_line,
    "http": calls.routes,
    "public": calls.public,
    "measures": calls.measures,
    "decisions": decisions.index,
}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return the text of a page for mkdocs, which calls this for each."""
    return filled(markdown, page.file.src_uri)


def on_config(config: Any) -> Any:
    """mkdocs calls it once, before it looks for pages: decisions and benchmarks are listed by what is there."""
    pages = sorted((ROOT / "benchmarks").glob("2*.md"), reverse=True)
    more: dict[str, list[Any]] = {
        "Decisions": decisions.navigation(),
        "Benchmarks": [page.relative_to(ROOT).as_posix() for page in pages],
    }
    for entry in config.nav:
        for title in set(more) & set(entry):
            entry[title] = [*entry[title], *more[title]]
    config.watch += [str(ROOT / name) for name in ("README.md", "DESIGN.md", "medsae_ray")]
    return config


def on_files(files: Any, config: Any) -> Any:
    """mkdocs calls it once: the pages of benchmarks/ belong to the site too."""
    for file in sorted((ROOT / "benchmarks").glob("*.md")):
        place = file.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(file)))
    return files


def filled(markdown: str, place: str) -> str:
    """The text of the page at `place` (below docs/) with what its markers stand for."""

    def text(found: re.Match[str]) -> str:
        kind, name = found.groups()
        return GENERATED[name]() + "\n" if kind == "generated" else included(ROOT / name, place)

    return MARKER.sub(text, markdown)


def included(file: Path, place: str) -> str:
    """A file of the project, without its title, as part of the page at `place`."""
    _, _, body = file.read_text().partition("\n")
    folder = file.relative_to(ROOT).parent.as_posix()
    back = posixpath.relpath(".", posixpath.dirname(place) or ".")

    def link(found: re.Match[str]) -> str:
        path, _, anchor = found[1].partition("#")
        whole = posixpath.normpath(posixpath.join(folder, path))
        inside = posixpath.normpath(posixpath.join(back, whole.removeprefix("docs/")))
        return f"]({inside}#{anchor})" if anchor else f"]({inside})"

    return re.sub(r"\]\((?!https?:|#|mailto:)([^)\s]+)\)", link, body)
