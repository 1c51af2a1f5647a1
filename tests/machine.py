"""The "as clean as before" check: what an engine may leave on a machine, recorded and compared.

    machine.py record FILE     write down what is there now
    machine.py compare FILE    print what has come since; exit status 1 if anything has

Some things go a moment after the answer (namespaces, links, the last rmdir), so the comparison waits for
them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 10.0
"""Seconds that things may take to go."""

Findings = dict[str, list[str]]


def mounts() -> list[str]:
    with open("/proc/self/mounts") as table:
        return sorted(line.split()[1] for line in table)


def cgroups() -> list[str]:
    return sorted(directory for directory, _, _ in os.walk("/sys/fs/cgroup"))


def links() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))


def tables() -> list[str]:
    listing = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True)
    return sorted(listing.stdout.splitlines())


def processes() -> tuple[list[str], list[str]]:
    """Processes of ours (told by the command line), and network namespaces that any process holds."""
    ours, namespaces = [], set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            namespaces.add(os.readlink(entry / "ns/net"))
        except OSError:
            continue
        if "cloche" in command.lower():
            ours.append(f"{entry.name} {command[:120]}")
    return sorted(ours), sorted(namespaces)


def look() -> Findings:
    ours, namespaces = processes()
    return {
        "mount": mounts(),
        "cgroup": cgroups(),
        "link": links(),
        "nft table": tables(),
        "process": ours,
        "network namespace": namespaces,
    }


def added(before: Findings) -> list[str]:
    news = []
    for kind, now in look().items():
        old = list(before[kind])
        for item in now:
            if item in old:
                old.remove(item)
            else:
                news.append(f"{kind} left: {item}")
    return news


def compare(before: Findings) -> int:
    deadline = time.monotonic() + PATIENCE
    while (news := added(before)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for line in news:
        print(line)
    return 1 if news else 0


def main() -> int:
    verb, path = sys.argv[1:]
    if verb == "record":
        Path(path).write_text(json.dumps(look()))
        return 0
    return compare(json.loads(Path(path).read_text()))


if __name__ == "__main__":
    sys.exit(main())
