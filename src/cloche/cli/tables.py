"""Docker's two ways of printing records: columns, and ``--format`` with a small subset of Go templates."""

from __future__ import annotations

from cloche.cli import wire
from cloche.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Fields = dict[str, Callable[[dict[str, Any]], Any]]
    """A record's printable fields by template name; computed only when they are printed."""


def show(
    records: list[dict[str, Any]], fields: Fields, columns: dict[str, str], template: str | None
) -> None:
    """Print ``records`` by ``template``: None for ``columns`` (heading -> field), ``json``, ``table
    TEMPLATE`` or a template for each."""
    if template is None or template == "table":
        rows = [[str(fields[name](record)) for name in columns.values()] for record in records]
        print_columns([list(columns), *rows])
    elif template == "json":
        for record in records:
            print(wire.encode({name: value(record) for name, value in fields.items()}))
    elif template.startswith("table "):
        parts = parse(template.removeprefix("table "))
        heads = {
            name: next((head for head, field in columns.items() if field == name), name) for name in fields
        }
        lines = [render(parts, heads).upper()]
        lines += [render(parts, _computed(parts, fields, record)) for record in records]
        print_columns([line.split("\t") for line in lines])
    else:
        parts = parse(template)
        for record in records:
            print(render(parts, _computed(parts, fields, record)))


def _computed(parts: list[Part], fields: Fields, record: dict[str, Any]) -> dict[str, Any]:
    wanted = {part.path[0] if part.path else "" for part in parts if part.path is not None}
    if "" in wanted:
        wanted = set(fields)
    unknown = wanted - set(fields)
    if unknown:
        raise UsageError(f"--format: there is no field {min(unknown)}; there are {', '.join(fields)}")
    return {name: fields[name](record) for name in wanted}


def print_columns(rows: list[list[str]]) -> None:
    """Columns three spaces apart and ten wide at least, as Docker's."""
    widths = [max(7, *(len(row[at]) if at < len(row) else 0 for row in rows)) for at in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width + 3) for cell, width in zip(row[:-1], widths, strict=False)]
        print("".join(cells) + row[-1])


class Part:
    """A piece of a template: literal text, or the value at a path, perhaps as JSON."""

    __slots__ = ("as_json", "path", "text")

    def __init__(self, text: str, path: list[str] | None = None, as_json: bool = False) -> None:
        self.text = text
        self.path = path
        self.as_json = as_json


def parse(template: str) -> list[Part]:
    """Text with ``{{.Field.Field}}``, ``{{.}}`` and ``{{json .Field}}``. Raises ``UsageError`` for more than
    that."""
    parts = []
    rest = template.replace("\\t", "\t").replace("\\n", "\n")
    while rest:
        text, opening, rest = rest.partition("{{")
        if text:
            parts.append(Part(text))
        if not opening:
            break
        action, closing, rest = rest.partition("}}")
        words = action.split()
        as_json = words[:1] == ["json"]
        words = words[1:] if as_json else words
        if not closing or len(words) != 1 or not words[0].startswith("."):
            raise UsageError(
                f"--format: cannot do {{{{{action}}}}}: only {{{{.Field}}}} and {{{{json .Field}}}}"
            )
        parts.append(Part(action, [name for name in words[0].split(".") if name], as_json))
    return parts


def render(parts: list[Part], record: Any) -> str:
    return "".join(part.text if part.path is None else _value(part, record) for part in parts)


def _value(part: Part, value: Any) -> str:
    for name in part.path or ():
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, dict) and (match := [key for key in value if key.lower() == name.lower()]):
            value = value[match[0]]
        else:
            raise UsageError(f"--format: there is no field {name} in {{{{{part.text.strip()}}}}}")
    return wire.encode(value) if part.as_json else go_text(value)


def go_text(value: Any) -> str:
    """A value as Go's templates print it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(item)}" for key, item in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(go_text, value)) + "]"
    return str(value)
