"""Configuration text as values whose every field knows its line.

`parse_toml` and `parse_jsonc` return the same `Document`: plain values (`dict`, `list`, `str`, numbers,
`bool`) and, beside them, the line of each path, so that a mistake is reported where a person will look for
it. TOML's values come from the standard library and its lines from the tree-sitter grammar; JSONC (JSON with
comments and trailing commas, as editors and wrangler write it) is read here. Pure: text in, values out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Final

import msgspec
import tree_sitter
import tree_sitter_toml

from atoll.config.plain import (
    DEPTH_HINT,
    INTEGER_HINT,
    MAX_DEPTH,
    TEXT_HINT,
    TOO_DEEP,
    first_mistake,
    is_text,
)
from atoll.errors import AtollError

Path = tuple[str | int, ...]
"""From the document's root: field names and array indices."""

_SPACE: Final = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_DECODER: Final = json.JSONDecoder()
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_LONGEST_NUMBER: Final = 1000  # Python converts no more than 4,300 digits
_MANY_DIGITS: Final = re.compile(r"[\d_]{4300}")
_TOML_LINE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


class Document(msgspec.Struct, frozen=True):
    """A configuration file. `lines` has every field's and array item's line, counted from 1."""

    name: str
    fields: dict[str, object]
    lines: dict[Path, int]

    def where(self, path: Path) -> str:
        """`file:line` of a path, or of the nearest thing around it that is in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines.get(path, 1)}"


def parse_toml(name: str, text: str) -> Document:
    """A TOML file.

    Raises:
        AtollError: not TOML, with the line.
    """
    _require_text(name, text)
    try:
        fields: dict[str, object] = tomllib.loads(text)
    except RecursionError:
        raise AtollError(TOO_DEEP, hint=DEPTH_HINT, where=f"{name}:{_deep_line(text)}") from None
    except tomllib.TOMLDecodeError as error:
        found = _TOML_LINE.search(str(error))
        line = found.group(1) if found else None
        at = line or str(text.count("\n", 0, len(text.rstrip())) + 1)
        message = f"not TOML: {_TOML_LINE.sub('', str(error))}"
        raise AtollError(message, hint="see https://toml.io", where=f"{name}:{at}") from error
    except ValueError:  # Python converts no more than 4,300 digits
        digits = _MANY_DIGITS.search(text)
        at = str(text.count("\n", 0, digits.start() if digits else 0) + 1)
        raise AtollError("an integer too large", hint=INTEGER_HINT, where=f"{name}:{at}") from None
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language())).parse(text.encode())
    # Where the grammar disagrees with the standard library, a mistake is only told by its file.
    lines = {} if tree.root_node.has_error else _first_lines(_toml_lines(tree.root_node))
    return _checked(Document(name, fields, lines))


def parse_jsonc(name: str, text: str) -> Document:
    """A JSON file with comments and trailing commas.

    Raises:
        AtollError: not that, with the line.
    """
    _require_text(name, text)
    reader = _JsoncReader(name, text)
    fields = reader.document()
    return _checked(Document(name, fields, _first_lines(iter(reader.lines))))


def _require_text(name: str, text: str) -> None:
    if not is_text(text):
        raise AtollError("not Unicode text", hint=TEXT_HINT, where=f"{name}:1")


def _checked(document: Document) -> Document:
    mistake = first_mistake(document.fields)
    if mistake is not None:
        raise AtollError(mistake.message, hint=mistake.hint, where=document.where(mistake.path))
    return document


def _deep_line(text: str) -> int:
    """About where brackets are nested too deeply: text is not told from structure."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "[{") - (character in "]}")
        if depth > MAX_DEPTH:
            return text.count("\n", 0, at) + 1
    return 1


def _first_lines(found: Iterator[tuple[Path, int]]) -> dict[Path, int]:
    """A TOML table may be opened by more than one header: its first line is the one to show."""
    lines: dict[Path, int] = {}
    for path, line in found:
        lines.setdefault(path, line)
    return lines


def _toml_lines(root: tree_sitter.Node) -> Iterator[tuple[Path, int]]:
    arrays: dict[Path, int] = {}
    for node in root.named_children:
        if node.type == "pair":
            yield from _pair_lines((), node)
        elif node.type in {"table", "table_array_element"}:
            yield from _table_lines(node, arrays)


def _table_lines(node: tree_sitter.Node, arrays: dict[Path, int]) -> Iterator[tuple[Path, int]]:
    """`[a.b]` or `[[a.b]]` and its pairs; `arrays` counts the elements of each array of tables so far."""
    header, *inside = (child for child in node.named_children if child.type != "comment")
    keys = _keys(header)
    path: Path = ()
    line = node.start_point.row + 1
    for depth, key in enumerate(keys, start=1):
        path = (*path, key)
        yield path, line
        if node.type == "table_array_element" and depth == len(keys):
            arrays[path] = arrays.get(path, 0) + 1
        if path in arrays:
            path = (*path, arrays[path] - 1)
            yield path, line
    for pair in inside:
        yield from _pair_lines(path, pair)


def _pair_lines(path: Path, pair: tree_sitter.Node) -> Iterator[tuple[Path, int]]:
    key, value = (child for child in pair.named_children if child.type != "comment")
    for part in _keys(key):
        path = (*path, part)
        yield path, key.start_point.row + 1
    yield from _value_lines(path, value)


def _value_lines(path: Path, value: tree_sitter.Node) -> Iterator[tuple[Path, int]]:
    if len(path) > MAX_DEPTH:
        return  # refused for its depth; the lines so far say where
    children = [child for child in value.named_children if child.type != "comment"]
    if value.type == "inline_table":
        for pair in children:
            yield from _pair_lines(path, pair)
    elif value.type == "array":
        for index, item in enumerate(children):
            yield (*path, index), item.start_point.row + 1
            yield from _value_lines((*path, index), item)


def _keys(node: tree_sitter.Node) -> list[str]:
    """The parts of a key; the grammar nests them to the left, however many there are."""
    parts: list[str] = []
    while node.type == "dotted_key":
        node, last = node.named_children
        parts.append(_key(last))
    return [_key(node), *reversed(parts)]


def _key(node: tree_sitter.Node) -> str:
    text = (node.text or b"").decode()
    return next(iter(tomllib.loads(f"{text} = 0"))) if node.type == "quoted_key" else text


class _JsoncReader:
    """Recursive descent over the text; `lines` collects each path's line on the way."""

    def __init__(self, name: str, text: str) -> None:
        self.lines: list[tuple[Path, int]] = []
        self._name = name
        self._text = text
        self._at = 0

    def document(self) -> dict[str, object]:
        if self._peek() != "{":
            raise self._mistake("a project file is one JSON object: it begins with {")
        fields = self._object(())
        if self._peek():
            raise self._mistake("something follows the closing brace")
        return fields

    def _peek(self) -> str:
        """The next character that is neither space nor comment; "" at the end."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at : self._at + 1]

    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _mistake(self, message: str) -> AtollError:
        found = self._text[self._at : self._at + 1]
        hint = f"found {found!r}" if found else "the file ends here"
        return AtollError(f"not JSON: {message}", hint=hint, where=f"{self._name}:{self._line()}")

    def _value(self, path: Path) -> object:
        if len(path) > MAX_DEPTH:
            raise AtollError(TOO_DEEP, hint=DEPTH_HINT, where=f"{self._name}:{self._line()}")
        match self._peek():
            case "{":
                return self._object(path)
            case "[":
                return self._array(path)
            case '"':
                return self._string()
            case _:
                return self._scalar()

    def _object(self, path: Path) -> dict[str, object]:
        fields: dict[str, object] = {}
        self._at += 1
        while self._peek() != "}":
            if self._peek() != '"':
                raise self._mistake("a field's name in double quotes is expected")
            line = self._line()
            key = self._string()
            if key in fields:
                raise self._mistake(f"{key!r} is given twice")
            self.lines.append(((*path, key), line))
            if self._peek() != ":":
                raise self._mistake(f"a colon is expected after {key!r}")
            self._at += 1
            fields[key] = self._value((*path, key))
            self._comma("}")
        self._at += 1
        return fields

    def _array(self, path: Path) -> list[object]:
        items: list[object] = []
        self._at += 1
        while self._peek() != "]":
            self.lines.append(((*path, len(items)), self._line()))
            items.append(self._value((*path, len(items))))
            self._comma("]")
        self._at += 1
        return items

    def _comma(self, closing: str) -> None:
        following = self._peek()
        if following == ",":
            self._at += 1
        elif following != closing:
            raise self._mistake(f"a comma or {closing} is expected")

    def _string(self) -> str:
        try:
            text, self._at = _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            raise self._mistake(error.msg) from error
        return str(text)

    def _scalar(self) -> object:
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return value
        number = _NUMBER.match(self._text, self._at)
        if number is None:
            raise self._mistake("a value is expected")
        if number.end() - number.start() > _LONGEST_NUMBER:
            hint = f"a number of at most {_LONGEST_NUMBER} characters, or text"
            raise AtollError("a number too long", hint=hint, where=f"{self._name}:{self._line()}")
        self._at = number.end()
        return json.loads(number.group())
