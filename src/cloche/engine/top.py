"""The processes of a container, as the host's ``ps`` shows them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable

from cloche.errors import Internal, InvalidArgument

Table = tuple[list[str], list[list[str]]]

# -o pid=X redirects the pid's column under another name, which makes the filter by pid impossible.
_RENAMED_PID = re.compile(r"\s+\S*pid=\S+", re.IGNORECASE)


async def processes(pids: Iterable[int], ps_args: str) -> Table:
    """Run ``ps ps_args`` on the host and keep the rows of ``pids``; ``ps_args`` is ``-ef`` where empty, as
    in Docker.

    Raises ``InvalidArgument`` for arguments that ps refuses or that give no PID column.
    """
    words = (ps_args or "-ef").split()
    if _RENAMED_PID.search(" " + " ".join(words)):
        raise InvalidArgument(
            f"specifying {' '.join(words)!r} is not allowed: the column PID must keep its name"
        )
    try:
        job = await asyncio.create_subprocess_exec(
            "ps", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise Internal("ps: the host has no ps command; install procps") from error
    output, errors = await job.communicate()
    if job.returncode:
        raise InvalidArgument(f"ps: {errors.decode(errors='replace').strip()}")
    return rows(output.decode(errors="replace"), frozenset(pids))


def rows(output: str, pids: frozenset[int]) -> Table:
    """The head and the matching rows of what ps printed; the last column keeps its spaces."""
    lines = output.splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidArgument("Couldn't find PID field in ps output")
    pid_column = titles.index("PID")
    found = []
    for line in lines[1:]:
        cells = line.split(None, len(titles) - 1)
        if len(cells) > pid_column and cells[pid_column].isdigit() and int(cells[pid_column]) in pids:
            found.append(cells)
    return titles, found
