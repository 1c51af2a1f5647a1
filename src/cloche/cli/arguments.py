"""Command lines. A command's help text is the specification of its options: what is documented is what is
parsed.

An option's line reads ``  -e, --env LIST...   help``: without a word behind the names it is a switch, with
one it takes a value, with ``...`` behind the word it may be given several times; two spaces end that part.
``argparse`` would cost more time than the rest of the command."""

from __future__ import annotations

from cloche.cli.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Option:
    __slots__ = ("key", "kind", "name")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.key = name.lstrip("-").replace("-", "_")
        self.kind = kind
        """``switch``, ``value`` or ``list``."""

    @property
    def empty(self) -> Any:
        """A switch that was not given is neither true nor false: some are on by default."""
        return [] if self.kind == "list" else None


class Arguments:
    """Options by their long name as attributes (``--no-trunc`` is ``no_trunc``), and the operands."""

    def __init__(self) -> None:
        self.operands: list[str] = []

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class HelpWanted(Exception):
    """``--help`` was given; ``str()`` is the help text."""


def specification(help_text: str) -> dict[str, Option]:
    """Every spelling of every option that the help text documents."""
    spellings: dict[str, Option] = {}
    for line in help_text.splitlines():
        head = line.strip().partition("  ")[0]
        if not head.startswith("-"):
            continue
        names = []
        words = head.split()
        while words and words[0].startswith("-"):
            names.append(words.pop(0).rstrip(","))
        value = words[0] if words else ""
        kind = "list" if value.endswith("...") else "value" if value else "switch"
        option = Option(names[-1], kind)
        for name in names:
            spellings[name] = option
    return spellings


def parse(help_text: str, argv: list[str], *, interspersed: bool = True) -> Arguments:
    """Parse ``argv`` by ``help_text``. Without ``interspersed``, options end at the first operand (what
    follows an image is the container's own command line). Raises ``UsageError`` and ``HelpWanted``."""
    spellings = specification(help_text)
    arguments = Arguments()
    for option in spellings.values():
        setattr(arguments, option.key, option.empty)
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            arguments.operands += rest
            break
        if word == "--help":
            raise HelpWanted(help_text)
        if word.startswith("--"):
            _long(spellings, arguments, word, rest)
        elif word.startswith("-") and word != "-":
            _short(spellings, arguments, word, rest)
        else:
            arguments.operands.append(word)
            if not interspersed:
                arguments.operands += rest
                break
    _check_count(help_text, arguments.operands)
    return arguments


def _long(spellings: dict[str, Option], arguments: Arguments, word: str, rest: list[str]) -> None:
    name, equals, value = word.partition("=")
    option = spellings.get(name)
    if option is None:
        raise UsageError(f"unknown flag: {name}")
    if option.kind == "switch":
        _store(arguments, option, _boolean(name, value) if equals else True)
    elif equals:
        _store(arguments, option, value)
    else:
        _store(arguments, option, _next(name, rest))


def _short(spellings: dict[str, Option], arguments: Arguments, word: str, rest: list[str]) -> None:
    letters = word[1:]
    while letters:
        name, letters = "-" + letters[0], letters[1:]
        option = spellings.get(name)
        if option is None:
            raise UsageError(f"unknown shorthand flag: {name[1:]!r} in {word}")
        if option.kind == "switch" and not letters.startswith("="):
            _store(arguments, option, True)
            continue
        value = letters.removeprefix("=") or (_next(name, rest) if not letters else "")
        _store(arguments, option, _boolean(name, value) if option.kind == "switch" else value)
        return


def _next(name: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"flag needs an argument: {name}")
    return rest.pop(0)


def _boolean(name: str, value: str) -> bool:
    if value.lower() in ("true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise UsageError(f"invalid argument {value!r} for {name}: true or false is wanted")


def _store(arguments: Arguments, option: Option, value: Any) -> None:
    if option.kind == "list":
        value = [*getattr(arguments, option.key), value]
    setattr(arguments, option.key, value)


def _check_count(help_text: str, operands: list[str]) -> None:
    """The usage line says how many operands there are: ``NAME`` is needed, ``[NAME]`` may be, ``...`` may be
    more."""
    usage = help_text.strip().splitlines()[0].partition("cloche ")[2]
    words = [word for word in usage.split() if word.strip("[].").isupper() and word != "[OPTIONS]"]
    least = sum(not word.startswith("[") for word in words)
    most = None if any("..." in word for word in words) else len(words)
    if len(operands) < least:
        raise UsageError(
            f"{least} argument{'s' if least > 1 else ''} wanted at least, as in: cloche {usage}"
        )
    if most is not None and len(operands) > most:
        raise UsageError(f"at most {most} argument{'s' if most != 1 else ''} wanted, as in: cloche {usage}")
