"""Names of images: ``[DOMAIN[:PORT]/]PATH[:TAG][@DIGEST]`` and the short forms that Docker's users write.

``busybox`` is ``docker.io/library/busybox:latest``; the first component is a domain only where it has a dot,
a colon or capitals, or is ``localhost`` (the distribution project's reference grammar)."""

from __future__ import annotations

import re
from typing import NamedTuple

from cloche.errors import InvalidArgument

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")

DEFAULT_DOMAIN = "docker.io"
OFFICIAL = "library/"
MAX_NAME = 255


class Reference(NamedTuple):
    """A parsed name. ``tag`` and ``digest`` are empty where not given."""

    domain: str
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        text = self.repository
        if self.tag:
            text += ":" + self.tag
        if self.digest:
            text += "@" + self.digest
        return text


def parse(text: str) -> Reference:
    """Normalise a name; adds no default tag. Raises ``InvalidArgument``."""
    if _ID.fullmatch(text):
        raise InvalidArgument(f"invalid reference {text!r}: it is an image's id, not a name")
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise InvalidArgument(f"invalid reference {text!r}: {digest!r} is not a sha256 digest")
    head, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidArgument(f"invalid reference {text!r}: {tag!r} is not a tag")
    domain, path = _split_domain(head + slash + last)
    if path != path.lower():
        raise InvalidArgument(f"invalid reference {text!r}: repository name must be lowercase")
    if not _PATH.fullmatch(path) or not _DOMAIN.fullmatch(domain):
        raise InvalidArgument(f"invalid reference format: {text!r}")
    if (domain, path) == (DEFAULT_DOMAIN, OFFICIAL + "sha256"):
        raise InvalidArgument(f"invalid reference {text!r}: with that name it would look like an image's id")
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise InvalidArgument(f"invalid reference: the repository name is longer than {MAX_NAME} characters")
    return Reference(domain, path, tag, digest)


def _split_domain(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    named = slash and (any(c in first for c in ".:") or first == "localhost" or first != first.lower())
    domain, path = (first, rest) if named else (DEFAULT_DOMAIN, name)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = OFFICIAL + path
    return domain, path


def with_tag(text: str) -> Reference:
    """``parse`` and the default tag ``latest`` where neither tag nor digest is given."""
    reference = parse(text)
    return reference if reference.tag or reference.digest else reference._replace(tag="latest")


def familiar(text: str) -> str:
    """The short form for people: ``docker.io/library/busybox:latest`` -> ``busybox:latest``."""
    rest = text.removeprefix(DEFAULT_DOMAIN + "/")
    if rest == text:
        return text
    short = rest.removeprefix(OFFICIAL)
    return short if "/" not in short else rest
