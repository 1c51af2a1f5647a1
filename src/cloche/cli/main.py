"""The ``cloche`` command: which word is which command, and how each ends.

Every command's module is imported when it is called; none imports more than it needs (tests/cli watches
that)."""

from __future__ import annotations

import os
import sys

from cloche.cli import signals
from cloche.cli.arguments import HelpWanted
from cloche.cli.errors import ApiError, CommandError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.cli.client import Client

HEAD = """\
Usage: cloche [OPTIONS] COMMAND

A container engine whose containers are plans that can be read, timed, diffed and replayed

Options:
  -H, --host unix://PATH   The daemon's socket (or CLOCHE_HOST; unix:///run/cloche/cloche.sock)
  -v, --version            Print the version

Commands:
"""

# name: (module in cloche.cli, function, text for the overview; empty for what is only another spelling)
COMMANDS = {
    "run": ("run", "run", "Make a container from an image and run a command in it"),
    "explain": ("explain", "explain", "Show a container's plan: each step, and where the milliseconds went"),
    "ps": ("containers", "ps", "List containers"),
    "logs": ("containers", "logs", "Show a container's output"),
    "create": ("run", "create", "Make a container, without starting it"),
    "start": ("run", "start", "Start containers that do not run"),
    "stop": ("containers", "stop", "Stop containers"),
    "restart": ("containers", "restart", "Stop and start containers"),
    "kill": ("containers", "kill", "Send a signal to containers"),
    "wait": ("containers", "wait", "Wait for containers to end, print their exit status"),
    "attach": ("run", "attach", "Join stdin, stdout and stderr to a running container"),
    "rm": ("containers", "rm", "Remove containers"),
    "rename": ("containers", "rename", "Give a container another name"),
    "top": ("containers", "top", "List a container's processes"),
    "inspect": ("containers", "inspect", "Show everything about containers or images"),
    "images": ("images", "images", "List images"),
    "load": ("images", "load", "Load images from a tar archive"),
    "import": ("images", "import_", "Make an image from a tar archive of a root file system"),
    "save": ("images", "save", "Write images to a tar archive"),
    "tag": ("images", "tag", "Give an image another name"),
    "rmi": ("images", "rmi", "Remove images"),
    "history": ("images", "history", "Show how an image was made"),
    "image": (
        "images",
        "image",
        "Image commands: from-host, ls, rm, inspect, history, load, import, save, tag",
    ),
    "container": ("containers", "container", ""),
    "events": ("system", "events", "Show what happens, as it happens"),
    "info": ("system", "info", "Describe the daemon and the machine"),
    "version": ("system", "version", "Show the versions of command and daemon"),
    "daemon": ("daemon", "main", "Run the daemon (cloched does the same)"),
}


def main() -> None:
    """The ``cloche`` script."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Closed by the caller: the connection to the daemon would take its number, and be read as input.
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(0, closefd=False)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)
    sys.stderr = sys.stderr or open(2, "w", closefd=False)
    _leave(_guarded(sys.argv[1:]))


def cloched() -> None:
    """The ``cloched`` script: ``cloche daemon``."""
    from cloche.cli import daemon

    sys.exit(daemon.main(sys.argv[1:]))


def _leave(code: int) -> None:
    """Without the interpreter's tidying up, which takes longer than some commands."""
    try:
        sys.stdout.flush()
    except OSError:
        code = code or 1
    os._exit(code)


def _guarded(argv: list[str]) -> int:
    try:
        return dispatch(argv)
    except ApiError as error:
        message, code = f"Error response from daemon: {error}", error.code
    except CommandError as error:
        message, code = str(error), error.code
    except BrokenPipeError:
        # Whoever read the output has enough.
        os._exit(128 + 13)
    except OSError as error:
        # A full disk behind the output, for one.
        message, code = str(error), 125 if argv[:1] == ["run"] else 1
    try:
        sys.stdout.flush()
    except OSError as error:
        message = str(error)
    print(f"cloche: {message}", file=sys.stderr)
    return code


def dispatch(argv: list[str]) -> int:
    """Run the command that ``argv`` names; its exit status."""
    host: str | None = None
    argv = list(argv)
    while argv and argv[0].startswith("-"):
        word = argv.pop(0)
        if word in ("-h", "--help"):
            print(overview())
            return 0
        if word in ("-v", "--version"):
            from cloche import __version__

            print(f"Cloche version {__version__}")
            return 0
        name, equals, value = word.partition("=")
        if name not in ("-H", "--host"):
            raise UsageError(f"unknown flag: {word}; see cloche --help")
        if not equals and not argv:
            raise UsageError(f"flag needs an argument: {word}")
        host = value if equals else argv.pop(0)
    if not argv or argv[0] == "help":
        print(overview())
        return 0
    return _call(argv[0], argv[1:], host)


def _call(name: str, argv: list[str], host: str | None) -> int:
    if name not in COMMANDS:
        raise UsageError(f"{name!r} is not a cloche command; see cloche --help")
    module_name, function_name, _ = COMMANDS[name]
    module = __import__(f"cloche.cli.{module_name}", fromlist=[function_name])
    if name == "daemon":
        return int(module.main(argv if host is None else ["-H", host, *argv]))

    # An ended pipe or Ctrl-C ends the command as it does any other, and not with a traceback.
    signals.default(signals.SIGPIPE, signals.SIGINT)

    def connect(start: bool = True) -> Client:
        from cloche.cli import autostart
        from cloche.cli.client import Client, host_of

        return autostart.connect(host_of(host)) if start else Client(host_of(host))

    try:
        return int(getattr(module, function_name)(connect, argv))
    except HelpWanted as wanted:
        print(str(wanted).strip())
        return 0


def overview() -> str:
    rows = [f"  {name:<10} {text}" for name, (_, _, text) in COMMANDS.items() if text]
    return HEAD + "\n".join(rows) + "\n\nRun 'cloche COMMAND --help' for a command's options."


if __name__ == "__main__":
    main()
