"""What the runtime can do, as runtime-spec features.md has it."""

from __future__ import annotations

import msgspec

from cloche.cgroups.layout import detect
from cloche.kernel import capabilities
from cloche.runtime import rootfs, seccomp

OCI_VERSION = "1.2.0"


def features() -> bytes:
    """JSON of this runtime on this machine."""
    layout = detect()
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "ociVersionMin": "1.0.0",
                "ociVersionMax": OCI_VERSION,
                "mountOptions": sorted(rootfs.OPTIONS),
                "linux": {
                    "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "uts"],
                    "capabilities": sorted(capabilities.NAMES),
                    "cgroup": {
                        "v1": True,
                        "v2": True,
                        "systemd": False,
                        "systemdUser": False,
                        "rdma": False,
                    },
                    "seccomp": {
                        "enabled": True,
                        "actions": sorted(seccomp.ACTIONS),
                        "operators": sorted(seccomp.OPERATORS),
                        "archs": sorted(name for names in seccomp.ARCHITECTURES.values() for name in names),
                        "knownFlags": sorted(seccomp.FLAGS),
                        "supportedFlags": sorted(seccomp.FLAGS),
                    },
                    "apparmor": {"enabled": False},
                    "selinux": {"enabled": False},
                    "intelRdt": {"enabled": False},
                    "mountExtensions": {"idmap": {"enabled": False}},
                },
                "annotations": {"cloche.cgroup.version": str(layout.version)},
            }
        ),
        indent=2,
    )
