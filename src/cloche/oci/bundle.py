"""A bundle: a directory with ``config.json`` and the root file system (runtime-spec, bundle.md)."""

from __future__ import annotations

import os

from cloche.errors import Conflict, InvalidArgument, NotFound
from cloche.oci.features import OCI_VERSION
from cloche.runtime import defaults, seccomp
from cloche.runtime.spec import Capabilities, Linux, Process, Resources, Root, Spec, decode, encode


def load(bundle: str) -> Spec:
    """Read ``config.json``. Raises ``NotFound`` and ``InvalidArgument``."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; `cloche-runtime spec` makes one") from None


def root(bundle: str, spec: Spec) -> str:
    """The root file system's absolute path. Raises ``InvalidArgument`` where it is no directory."""
    path = os.path.realpath(os.path.join(bundle, spec.root.path))
    if not os.path.isdir(path):
        raise InvalidArgument(f"root.path: {path} is no directory")
    return path


def write_example(bundle: str) -> None:
    """``config.json`` of a shell in Docker's default container. Raises ``Conflict`` where there is one
    already."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "xb") as file:
            file.write(encode(example()) + b"\n")
    except FileExistsError:
        raise Conflict(f"{path} exists; remove it first") from None


def example() -> Spec:
    names = defaults.CAPABILITIES
    return Spec(
        oci_version=OCI_VERSION,
        root=Root("rootfs"),
        process=Process(
            cwd="/",
            args=("sh",),
            env=(defaults.ENVIRONMENT_PATH, "TERM=xterm"),
            terminal=os.isatty(0),
            capabilities=Capabilities(bounding=names, effective=names, permitted=names),
            no_new_privileges=True,
        ),
        mounts=defaults.mounts(),
        hostname="cloche",
        linux=Linux(
            namespaces=defaults.NAMESPACES,
            resources=Resources(devices=defaults.DEVICE_RULES),
            seccomp=seccomp.resolve(None, names),
            masked_paths=defaults.MASKED_PATHS,
            readonly_paths=defaults.READONLY_PATHS,
        ),
    )
