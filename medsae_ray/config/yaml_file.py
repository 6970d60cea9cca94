"""A recipe's YAML: safe, in UTF-8, with every key once. What is wrong with it is one RecipeError."""

import re
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from medsae_ray.errors import RecipeError

GUESSED = "# guessed:"
"""What a drafted recipe marks a value with that has to be confirmed."""
_SHAPE = "a recipe is a mapping with name, what and how"


class _Loader(yaml.SafeLoader):
    """Safe YAML that reads 1e-3 as the number it is (YAML 1.1 wants 1.0e-3 and makes a text of the other)."""


def _plain_number(loader: _Loader, node: yaml.ScalarNode) -> int | float:
    """YAML 1.1 takes 010 for 8 and 1:30 for 90, which nobody means here."""
    kind = node.tag.rpartition(":")[2]
    value: int | float = getattr(loader, f"construct_yaml_{kind}")(node)
    digits = node.value.replace("_", "")
    if ":" in digits or (re.fullmatch(r"[-+]?0\d+", digits) and int(digits) != value):
        raise yaml.constructor.ConstructorError(
            problem=f"{node.value} is {value} in YAML; write {value}, or quotes around a text",
            problem_mark=node.start_mark,
        )
    return value


for _kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _plain_number)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a file. RecipeError says what is there in its place, and where."""
    text = _text(file)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _refuse_second_keys(node, file, loader)
        data = None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        tab = "; YAML is indented with spaces, not with tabs" if "'\\t'" in str(error) else ""
        raise RecipeError(f"{file} is not YAML: {error}{tab}") from error
    except (RecursionError, ValueError) as error:  # nested without end; a date that is none
        raise RecipeError(f"{file} is not YAML that makes sense: {error}") from error
    if data is None:
        raise RecipeError(f"{file} is empty; {_SHAPE}")
    if not isinstance(data, dict):
        raise RecipeError(f"{file} holds {type(data).__name__}, {_SHAPE}")
    return data


def read_value(text: str, where: str) -> Any:
    """One value as a recipe would have it. RecipeError, which says `where` it was given, for what is not YAML."""
    try:
        return _Loader(text).get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())
        raise RecipeError(f"the value of {where} is not YAML: {said}; a text may need quotes") from error


def guesses(file: Path) -> int:
    """How many values of a recipe are marked as guesses still."""
    return sum(GUESSED in line and not line.startswith("#") for line in _text(file).splitlines())


def leading_comment(file: Path) -> str:
    """The comment that a file begins with, in one line."""
    lines = takewhile(lambda line: line.startswith("#"), _text(file).splitlines())
    return " ".join(line.lstrip("#").strip() for line in lines)


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


def _refuse_second_keys(root: yaml.Node, file: Path, loader: _Loader) -> None:
    """YAML takes the last of two equal keys without a word: a run of something else than one reads at the top."""
    todo: list[yaml.Node] = [root]
    seen: set[int] = set()
    while todo:
        node = todo.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))  # an anchor's node is in several places
        if not isinstance(node, yaml.MappingNode):
            todo += node.value
            continue
        todo += [value for _, value in node.value]
        lines: dict[Any, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            # 1 and 1.0 are one key too
            number = key.tag.endswith((":int", ":float", ":bool"))
            name, line = loader.construct_object(key) if number else key.value, key.start_mark.line + 1
            if name in lines:
                raise RecipeError(
                    f"{file}: key {key.value!r} comes twice, in lines {lines[name]} and {line}; remove one"
                )
            lines[name] = line
