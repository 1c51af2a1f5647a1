"""What an engine is told at birth. Nothing global: two engines with different settings live side by side."""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True):
    root: str = "/var/lib/cloche"
    run_dir: str = "/run/cloche"
    name: str = "cloche"
    """Prefix of links, cgroups and tables. The bridge is ``NAME0``; the cgroup parent ``/NAME``."""
    bridge_subnet: str = ""
    """``--bip``: address and prefix of the bridge, e.g. ``172.30.0.1/16``; empty picks a free one."""
    labels: tuple[str, ...] = ()
    log_options: dict[str, str] = {}
