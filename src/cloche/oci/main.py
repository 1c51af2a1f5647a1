"""``cloche-runtime``: the OCI runtime command line (runtime-spec, runtime.md and the runc command line that
engines call). There is ``run`` in the foreground so far; the other verbs say that they are missing."""

from __future__ import annotations

import sys

from cloche.errors import ClocheError, InvalidArgument, Unsupported

_MISSING = (
    "create",
    "start",
    "state",
    "kill",
    "delete",
    "exec",
    "list",
    "ps",
    "pause",
    "resume",
    "update",
    "events",
    "checkpoint",
    "restore",
)

USAGE = """usage: cloche-runtime --version
       cloche-runtime features
       cloche-runtime spec [--bundle DIR]
       cloche-runtime run [--bundle DIR] [--cgroup-parent PATH] ID
"""


def main() -> None:
    """Exit status: the program's own from ``run``, 1 for an error, 2 for a wrong command line."""
    try:
        sys.exit(_dispatch(sys.argv[1:]))
    except ClocheError as error:
        print(f"cloche-runtime: {error}", file=sys.stderr)
        sys.exit(1)


def _dispatch(words: list[str]) -> int:
    verb = words[0] if words else ""
    if verb in ("-v", "--version", "version"):
        return _version()
    if verb in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if verb == "features":
        return _features()
    if verb == "spec":
        options, rest = _options(words[1:], ("bundle",))
        return _usage("spec takes no argument") if rest else _spec(options.get("bundle", "."))
    if verb == "run":
        options, rest = _options(words[1:], ("bundle", "cgroup-parent"))
        if len(rest) != 1:
            return _usage("run takes one argument, the container's id")
        from cloche.oci.run import run

        return run(options.get("bundle", "."), rest[0], options.get("cgroup-parent", "/cloche-runtime"))
    if verb in _MISSING:
        raise Unsupported(f"{verb}: this verb is not built yet; there are run, spec, features and --version")
    return _usage(f"{verb!r} is no verb" if verb else "a verb is missing")


def _usage(problem: str) -> int:
    print(f"cloche-runtime: {problem}\n{USAGE}", end="", file=sys.stderr)
    return 2


def _options(words: list[str], known: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """``--name VALUE`` and ``--name=VALUE``, and what is left. ``-b`` is ``--bundle``, as in runc."""
    options: dict[str, str] = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-") or word == "-":
            rest.append(word)
            continue
        name, separator, value = word.lstrip("-").partition("=")
        name = "bundle" if name == "b" else name
        if name not in known:
            raise InvalidArgument(
                f"option {word!r} is not one of {', '.join('--' + name for name in known)}"
            )
        if not separator:
            if not queue:
                raise InvalidArgument(f"option {word!r} needs a value")
            value = queue.pop(0)
        options[name] = value
    return options, rest


def _version() -> int:
    from cloche import __version__
    from cloche.oci.features import OCI_VERSION

    print(f"cloche-runtime version {__version__}\nspec: {OCI_VERSION}")
    return 0


def _features() -> int:
    from cloche.oci.features import features

    sys.stdout.buffer.write(features() + b"\n")
    return 0


def _spec(bundle: str) -> int:
    from cloche.oci.bundle import write_example

    write_example(bundle)
    return 0
