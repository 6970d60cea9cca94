"""A recipe's YAML: safe, in UTF-8, with every key once. Any fault is one RecipeError.

It is YAML 1.2, in which `no`, `off` and `y` are words, as labels may be, 1e-3 is a number, and 010 is ten.
"""

import re
from itertools import takewhile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from medsae_ray.errors import RecipeError

GUESSED = "# guessed:"
"""The mark of a value in a drafted recipe that has to be confirmed."""
_SHAPE = "a recipe is a mapping with name, what and how"


def read_yaml(file: Path) -> dict[str, Any]:
    """Read the mapping in a file. RecipeError names anything else and its place."""
    text = _text(file)
    try:
        data = _parsed(text, file)
    except YAMLError as error:
        tab = "; YAML is indented with spaces, not with tabs" if "'\\t'" in str(error) else ""
        raise RecipeError(f"{file} is not YAML: {error}{tab}") from error
    except (RecursionError, ValueError, KeyError) as error:  # nested without end; no date, no !!bool
        raise RecipeError(f"{file} is not YAML that makes sense: {error}") from error
    if data is None:
        raise RecipeError(f"{file} is empty; {_SHAPE}")
    if not isinstance(data, dict):
        raise RecipeError(f"{file} holds {type(data).__name__}, {_SHAPE}")
    return data


def read_value(text: str, where: str) -> Any:
    """Read one value of a recipe. RecipeError, which names its origin `where`, if it is not YAML."""
    try:
        return _parsed(text, where)
    except (YAMLError, RecursionError, ValueError, KeyError) as error:
        said = " ".join(str(error).split())
        raise RecipeError(f"the value of {where} is not YAML: {said}; a text may need quotes") from error


def guesses(file: Path) -> int:
    """Count the values of a recipe that are still marked as guesses."""
    return sum(GUESSED in line and not line.startswith("#") for line in _text(file).splitlines())


def leading_comment(file: Path) -> str:
    """Return the comment that begins a file, in one line."""
    lines = takewhile(lambda line: line.startswith("#"), _text(file).splitlines())
    return " ".join(line.lstrip("#").strip() for line in lines)


def _parsed(text: str, file: Path | str) -> Any:
    """Parse a text; None if it is empty."""
    yaml = YAML(typ="safe", pure=True)  # the C parser reads YAML 1.1
    if older := re.search(r"^%YAML(?!\s+1\.2\s).*", text, re.MULTILINE):
        raise RecipeError(f"{file} says {older[0].strip()!r}, and a recipe is YAML 1.2; remove that line")
    node = yaml.compose(text)
    if node is None:
        return None
    _refuse_second_keys(node, file, yaml.constructor)
    return yaml.constructor.construct_document(node)


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RecipeError(f"{file} cannot be read: {error.strerror}") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecipeError(f"{file} is UTF-16 text; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        raise RecipeError(
            f"{file} is no UTF-8 text: the first byte that does not fit is in line {line}. It may be Latin-1 or "
            "Windows-1252; save it as UTF-8"
        ) from None


def _refuse_second_keys(root: Node, file: Path | str, constructor: SafeConstructor) -> None:
    """Refuse equal keys. YAML silently takes the last, while a reader sees the first."""
    todo: list[Node] = [root]
    seen: set[int] = set()
    while todo:
        node = todo.pop()
        if id(node) in seen or isinstance(node, ScalarNode):
            continue
        seen.add(id(node))  # an anchor's node occurs in several places
        if not isinstance(node, MappingNode):
            todo += node.value
            continue
        todo += [value for _, value in node.value]
        lines: dict[Any, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, ScalarNode)):
            # 1 and 1.0 are one key too
            number = str(key.tag).endswith((":int", ":float", ":bool"))
            name, line = constructor.construct_object(key) if number else key.value, key.start_mark.line + 1
            if name in lines:
                raise RecipeError(
                    f"{file}: key {key.value!r} comes twice, in lines {lines[name]} and {line}; remove one"
                )
            lines[name] = line
