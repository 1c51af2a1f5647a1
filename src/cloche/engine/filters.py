"""Docker's filters: which containers, images and events a client wants to see."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from cloche.engine.records import Container, Event
from cloche.errors import InvalidArgument
from cloche.images.model import Image

Filters = Mapping[str, Sequence[str]]
"""Key -> values; values of one key are alternatives (labels: all must match), keys must all match."""

CONTAINER_KEYS = frozenset(
    (
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    )
)
IMAGE_KEYS = frozenset(("before", "dangling", "label", "label!", "reference", "since", "until"))
EVENT_KEYS = frozenset(
    (
        "action",
        "config",
        "container",
        "daemon",
        "event",
        "id",
        "image",
        "label",
        "network",
        "node",
        "plugin",
        "scope",
        "secret",
        "service",
        "type",
        "volume",
    )
)
STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")


def parse(text: str, known: frozenset[str]) -> dict[str, list[str]]:
    """The ``filters`` query parameter: ``{"key": {"value": true}}``, or ``{"key": ["value"]}`` as older
    clients send it.

    Raises ``InvalidArgument`` for what is neither, and for a key that is not in ``known``.
    """
    if not text:
        return {}
    try:
        raw = msgspec.json.decode(text, type=dict[str, dict[str, bool] | list[str]])
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid filter: {error}") from error
    for key in raw:
        if key not in known:
            raise InvalidArgument(f"invalid filter '{key}'")
    return {k: [v for v, wanted in values.items() if wanted] if isinstance(values, dict) else values
            for k, values in raw.items()}  # fmt: skip


def boolean(filters: Filters, key: str) -> bool | None:
    """The value of a filter that is true or false; ``None`` where it was not given."""
    values = filters.get(key)
    if not values:
        return None
    given = {value.lower() for value in values}
    if given <= {"1", "true"}:
        return True
    if given <= {"0", "false"}:
        return False
    raise InvalidArgument(f"invalid filter '{key}={values[0]}'")


def labels_match(wanted: Iterable[str], labels: Mapping[str, str]) -> bool:
    """Each of ``KEY`` or ``KEY=VALUE`` is among the labels."""
    for want in wanted:
        key, separator, value = want.partition("=")
        if key not in labels or (separator and labels[key] != value):
            return False
    return True


def _pattern_match(patterns: Sequence[str], *subjects: str) -> bool:
    """Docker's: a pattern is a regular expression that may match anywhere, or the exact text."""
    for pattern in patterns:
        try:
            if any(pattern == subject or re.search(pattern, subject) for subject in subjects):
                return True
        except re.error as error:
            raise InvalidArgument(f"invalid filter {pattern!r}: {error}") from error
    return False


# --- containers -----------------------------------------------------------------------------------


class Catalogue(msgspec.Struct, frozen=True):
    """How filters resolve what they name."""

    container: Callable[[str], Container]
    """By reference; raises NotFound."""
    image: Callable[[str], Image | None]
    """By reference; None where there is none."""


def containers(
    everything: Sequence[Container], filters: Filters, every: bool, limit: int, catalogue: Catalogue
) -> list[Container]:
    """``docker ps``: running ones only unless ``every``, a limit or a filter by status says otherwise;
    newest first."""
    chosen = list(everything)
    if not (every or limit > 0 or filters.get("status") or filters.get("exited")):
        chosen = [c for c in chosen if c.state.status in ("running", "paused", "restarting")]
    for key, values in filters.items():
        test = _container_test(key, values, filters, catalogue)
        chosen = [c for c in chosen if test(c)]
    return chosen[:limit] if limit > 0 else chosen


def _container_test(
    key: str, values: Sequence[str], filters: Filters, catalogue: Catalogue
) -> Callable[[Container], bool]:
    simple = _CONTAINER_TESTS.get(key)
    if simple:
        return simple(values)
    if key == "before":
        newest = max(catalogue.container(value).created_at for value in values)
        return lambda c: c.created_at < newest
    if key == "since":
        oldest = min(catalogue.container(value).created_at for value in values)
        return lambda c: c.created_at > oldest
    if key == "ancestor":
        return _ancestor(values, catalogue)
    if key == "is-task":
        task = boolean(filters, key)
        return lambda c: not task
    if key in CONTAINER_KEYS:
        return lambda c: True
    raise InvalidArgument(f"invalid filter '{key}'")


def _status(values: Sequence[str]) -> Callable[[Container], bool]:
    for value in values:
        if value not in STATUSES:
            raise InvalidArgument(f"invalid filter 'status={value}'")
    return lambda c: c.state.status in values


def _exited(values: Sequence[str]) -> Callable[[Container], bool]:
    try:
        codes = {int(value) for value in values}
    except ValueError as error:
        raise InvalidArgument(f"invalid filter 'exited={values[0]}'") from error
    return lambda c: c.state.status == "exited" and c.state.started_at > 0 and c.state.exit_code in codes


def _network(values: Sequence[str]) -> Callable[[Container], bool]:
    def of(container: Container) -> str:
        mode = container.config.network_mode
        return "bridge" if mode in ("", "default") else mode

    return lambda c: of(c) in values


def _volume(values: Sequence[str]) -> Callable[[Container], bool]:
    def places(container: Container) -> set[str]:
        binds = (part for bind in container.config.binds for part in bind.split(":")[:2])
        return {*binds, *container.config.tmpfs}

    return lambda c: not places(c).isdisjoint(values)


def _exposed(values: Sequence[str]) -> Callable[[Container], bool]:
    ports = {value if "/" in value else f"{value}/tcp" for value in values}
    return lambda c: not ports.isdisjoint(c.config.exposed_ports)


_CONTAINER_TESTS: dict[str, Callable[[Sequence[str]], Callable[[Container], bool]]] = {
    "id": lambda values: lambda c: any(c.id.startswith(v) for v in values) or _pattern_match(values, c.id),
    "name": lambda values: lambda c: _pattern_match(values, c.name, "/" + c.name),
    "label": lambda values: lambda c: labels_match(values, c.labels),
    "status": _status,
    "exited": _exited,
    "network": _network,
    "volume": _volume,
    "expose": _exposed,
    "publish": lambda values: lambda c: False,
    "health": lambda values: lambda c: "none" in values,
}


def _ancestor(values: Sequence[str], catalogue: Catalogue) -> Callable[[Container], bool]:
    ids: set[str] = set()
    layers: list[list[str]] = []
    for value in values:
        image = catalogue.image(value)
        if image:
            ids.add(image.id)
            layers.append(image.config.rootfs.diff_ids)

    def descends(container: Container) -> bool:
        if container.image_id in ids:
            return True
        image = catalogue.image(container.image_id)
        return image is not None and any(image.config.rootfs.diff_ids[: len(b)] == b for b in layers if b)

    return descends


# --- images ---------------------------------------------------------------------------------------


def short_reference(reference: str) -> str:
    """``docker.io/library/busybox:latest`` as people write it: ``busybox:latest``."""
    return reference.removeprefix("docker.io/").removeprefix("library/")


def images(
    everything: Sequence[Image], filters: Filters, find: Callable[[str], Image | None]
) -> list[Image]:
    """``docker images``: all of them narrowed by Docker's filters; newest first."""
    chosen = sorted(everything, key=lambda image: image.created_at, reverse=True)
    for key, values in filters.items():
        test = _image_test(key, values, filters, find)
        chosen = [image for image in chosen if test(image)]
    if patterns := filters.get("reference"):
        # Docker shows an image that was asked for by name under the names that match.
        chosen = [_with_tags(image, patterns) for image in chosen]
    return chosen


def _with_tags(image: Image, patterns: Sequence[str]) -> Image:
    matching = (tag for tag in image.tags if any(_reference_match(pattern, tag) for pattern in patterns))
    return msgspec.structs.replace(image, tags=tuple(matching))


def _image_test(
    key: str, values: Sequence[str], filters: Filters, find: Callable[[str], Image | None]
) -> Callable[[Image], bool]:
    if key == "dangling":
        dangling = boolean(filters, key)
        return lambda image: (not image.tags) == dangling
    if key == "label":
        return lambda image: labels_match(values, _image_labels(image))
    if key == "label!":
        return lambda image: not any(labels_match([value], _image_labels(image)) for value in values)
    if key == "reference":
        return lambda image: any(_reference_match(v, tag) for v in values for tag in image.tags)
    if key in ("before", "since"):
        times = [_known(find, value).created_at for value in values]
        if key == "before":
            return lambda image: image.created_at < max(times)
        return lambda image: image.created_at > min(times)
    if key == "until":
        limit = min(moment(value) for value in values)
        return lambda image: image.created_at < limit
    raise InvalidArgument(f"invalid filter '{key}'")


def _known(find: Callable[[str], Image | None], reference: str) -> Image:
    image = find(reference)
    if image is None:
        raise InvalidArgument(f"No such image: {reference}")
    return image


def _image_labels(image: Image) -> Mapping[str, str]:
    return (image.config.config.Labels if image.config.config else None) or {}


def _reference_match(pattern: str, reference: str) -> bool:
    """``path.Match`` of Go: ``*`` and ``?`` stop at a slash; the tag may be left out of the pattern."""
    expression = "".join(
        {"*": "[^/]*", "?": "[^/]"}.get(piece, piece if piece.startswith("[") else re.escape(piece))
        for piece in re.findall(r"\[[^\]]*\]|.", pattern)
    )
    short = short_reference(reference)
    return any(re.fullmatch(expression, name) for name in (short, short.rpartition(":")[0], reference))


def moment(text: str) -> int:
    """A time as Docker's filters take it, in nanoseconds: Unix seconds, RFC 3339, or an age like ``10m``
    or ``1h30m``."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        whole, _, fraction = text.partition(".")
        return int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, "0") or 0)
    pieces = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if pieces and "".join(a + b for a, b in pieces) == text:
        scale = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
        age = sum(float(number) * scale[unit] for number, unit in pieces)
        return time.time_ns() - int(age * 1e9)
    return _rfc3339(text)


def _rfc3339(text: str) -> int:
    from datetime import UTC, datetime

    match = re.fullmatch(
        r"(\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?)?)(?:\.(\d{1,9}))?(Z|[+-]\d\d:?\d\d)?", text
    )
    try:
        if match is None:
            raise ValueError(text)
        parsed = datetime.fromisoformat(match[1] + (match[3] or "" if "T" in match[1] else ""))
    except ValueError as error:
        raise InvalidArgument(
            f"invalid time {text!r}: give Unix seconds, RFC 3339, or an age like 10m"
        ) from error
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return int(parsed.timestamp()) * 1_000_000_000 + int((match[2] or "").ljust(9, "0") or 0)


# --- events ---------------------------------------------------------------------------------------


def event_matches(event: Event, filters: Filters) -> bool:
    """Whether an event passes all filters. An action matches also without its detail (``exec_create:
    sh``)."""
    return all(_event_test(event, key, values) for key, values in filters.items() if values)


def _event_test(event: Event, key: str, values: Sequence[str]) -> bool:
    attributes = event.attributes
    match key:
        case "event" | "action":
            return event.action in values or event.action.partition(":")[0] in values
        case "type":
            return event.kind in values
        case "label":
            return labels_match(values, attributes)
        case "scope":
            return "local" in values
        case "image":
            image = attributes.get("image", "") if event.kind == "container" else event.actor_id
            names = {image, attributes.get("name", "") if event.kind == "image" else ""}
            names |= {name.rpartition(":")[0] for name in names if ":" in name}
            return not names.isdisjoint(values)
        case "id":
            return any(event.actor_id.startswith(value) for value in values)
        case _:
            return event.kind == key and _actor_match(event, values)


def _actor_match(event: Event, values: Sequence[str]) -> bool:
    name = event.attributes.get("name", "")
    return any(event.actor_id.startswith(value) or name == value.lstrip("/") for value in values)


def event_filters(text: str) -> dict[str, list[str]]:
    """``filters`` of ``/events``."""
    return parse(text, EVENT_KEYS)


def container_filters(text: str) -> dict[str, list[str]]:
    """``filters`` of ``/containers/json``."""
    return parse(text, CONTAINER_KEYS)


def image_filters(text: str) -> dict[str, list[str]]:
    """``filters`` of ``/images/json``."""
    return parse(text, IMAGE_KEYS)
