"""Every step there is, by concern. ``STEPS`` is the whole list, in the order in which the documentation
shows them."""

from cloche.plan.step import Step
from cloche.plan.steps.cgroup import (
    AttachCgroups,
    AttachDeviceProgram,
    MakeCgroups,
    SetOomScore,
    WriteCgroup,
)
from cloche.plan.steps.files import (
    MakeDevice,
    MakeDirectory,
    MakeSymlink,
    MaskPath,
    ReadonlyPath,
    ReadonlyRoot,
)
from cloche.plan.steps.mount import (
    Bind,
    BindCgroups,
    BindRoot,
    MakePrivate,
    MountFilesystem,
    MountOverlay,
    PivotRoot,
)
from cloche.plan.steps.network import (
    AddRoute,
    ApplyNftables,
    BringUpLoopback,
    CreateBridge,
    CreateVeth,
    DeleteLink,
    SetAddress,
)
from cloche.plan.steps.privileges import (
    ChangeDirectory,
    Exec,
    LoadSeccomp,
    NoNewPrivileges,
    ResolveUser,
    SetCapabilities,
    SetIds,
)
from cloche.plan.steps.process import (
    Await,
    Clone,
    JoinNamespace,
    JoinSessionKeyring,
    OpenTerminal,
    SetDomainname,
    SetHostname,
    SetRlimit,
    Signal,
    UnshareCgroup,
    WriteSysctl,
)

HOST_STEPS: tuple[type[Step], ...] = (
    MakeCgroups,
    WriteCgroup,
    AttachDeviceProgram,
    Clone,
    AttachCgroups,
    SetOomScore,
    CreateBridge,
    CreateVeth,
    DeleteLink,
    ApplyNftables,
    WriteSysctl,
    Signal,
)
CONTAINER_STEPS: tuple[type[Step], ...] = (
    Await,
    JoinNamespace,
    UnshareCgroup,
    MakePrivate,
    MountOverlay,
    BindRoot,
    Bind,
    MountFilesystem,
    BindCgroups,
    MakeDevice,
    MakeSymlink,
    MakeDirectory,
    OpenTerminal,
    PivotRoot,
    MaskPath,
    ReadonlyPath,
    ReadonlyRoot,
    SetHostname,
    SetDomainname,
    BringUpLoopback,
    SetAddress,
    AddRoute,
    SetRlimit,
    JoinSessionKeyring,
    ResolveUser,
    SetIds,
    SetCapabilities,
    NoNewPrivileges,
    LoadSeccomp,
    ChangeDirectory,
    Exec,
)
STEPS: tuple[type[Step], ...] = HOST_STEPS + tuple(
    step for step in CONTAINER_STEPS if step not in HOST_STEPS
)
