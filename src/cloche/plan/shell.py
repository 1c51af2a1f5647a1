"""A plan as a script of util-linux, iproute2 and shell that makes the same container.

Three things differ from running the plan, each because a script is no process of ours:

- init is attached to its cgroups and joins namespaces before the new ones are made, by the shell that then
  becomes ``unshare``; so the cgroup namespace is made together with the others.
- After ``PivotRoot`` no program of the host is on disk any more. The shell's directory stays in the host's
  /usr, though, which outlives the lazy unmount as long as somebody is there; programs are started from there
  by relative paths, through the host's own loader.
- User, capabilities, filter, directory and environment are set by a chain of programs, each of which becomes
  the next.

Changes to the file system go to a scratch directory, cgroups and the host's end of a veth have names of the
script's own, so that the script runs beside the container that it was rendered from.
"""

from __future__ import annotations

from cloche.plan.plan import Plan
from cloche.plan.step import Step, quote
from cloche.plan.steps import (
    AttachCgroups,
    AttachDeviceProgram,
    Await,
    ChangeDirectory,
    Clone,
    Exec,
    JoinNamespace,
    LoadSeccomp,
    MakeCgroups,
    NoNewPrivileges,
    SetCapabilities,
    SetDomainname,
    SetHostname,
    SetIds,
    SetOomScore,
    Signal,
    UnshareCgroup,
    WriteCgroup,
)

_HEAD = """\
#!/bin/sh
# Makes a container with util-linux, iproute2 and shell. Run as root: sh SCRIPT
set -eu
umask 022
export LC_ALL=C
scratch=$(mktemp -d)
root=$scratch/root
own=-script-$$
veth=script$$
export scratch root own
mkdir "$root"
: > "$scratch/cgroups"

make_cgroup() { mkdir -p "$1"; echo "$1" >> "$scratch/cgroups"; }

clean_up() {
    if [ -n "${helper-}" ]; then
        kill "$helper" 2>/dev/null || true
        wait "$helper" 2>/dev/null || true
    fi
    while read -r cgroup; do
        for try in 1 2 3 4 5 6 7 8 9 10; do
            rmdir "$cgroup" 2>/dev/null && break
            sleep 0.1
        done
    done < "$scratch/cgroups"
    [ ! -e "/sys/class/net/$veth" ] || ip link delete "$veth" 2>/dev/null || true
    rm -rf --one-file-system "$scratch"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
"""

_INIT_HEAD = """\
set -eu

# Programs of the host, as seen from its /usr, where this shell stays.
loader=
for candidate in /lib64/ld-linux-x86-64.so.2 /lib/ld-linux-aarch64.so.1; do
    [ ! -e "$candidate" ] || loader=$(readlink -f "$candidate")
done
[ -n "$loader" ] || { echo "no loader of the C library found" >&2; exit 1; }
libraries=..${loader%/*}
loader=..$loader
for tool in cat chown env ip ln mkdir mknod mount perl prlimit rm setpriv stat umount; do
    path=$(command -v "$tool") || continue
    eval "path_$tool=..\\$(readlink -f \\"\\$path\\")"
done
cd /usr

host() { eval "shift; \\"\\$loader\\" --library-path \\"\\$libraries\\" \\"\\$path_$1\\" \\"\\$@\\""; }

# -n: nothing of it is noted in the container's own /run.
mount() { command mount -n "$@"; }

enter_root() {
    pivot_root "$root" "$root"
    root=
    for tool in cat chown ip ln mkdir mknod prlimit rm stat umount; do
        eval "$tool() { host $tool \\"\\$@\\"; }"
    done
    mount() { host mount -n "$@"; }
    umount --lazy --no-mtab --internal-only --no-canonicalize /
}

make_target() {
    if [ -d "$1" ]; then
        mkdir -p "$2"
    elif [ ! -e "$2" ]; then
        mkdir -p "${2%/*}"
        : > "$2"
    fi
}

home=/ groups=--clear-groups

# Name and number of an entry, and what is looked for: a number is never a name.
is_entry() {
    case $3 in *[!0-9]*) [ "$1" = "$3" ] ;; *) [ "$2" = "$3" ] ;; esac
}

# Docker's USER[:GROUP] and more groups, looked up in the container.
resolve_user() {
    user=${1%%:*} group= member=
    case $1 in *:*) group=${1#*:} ;; esac
    shift
    uid=${user:-0} gid=0
    if [ -e "$root/etc/passwd" ]; then
        while IFS=: read -r name _ number primary _ directory _; do
            if is_entry "$name" "$number" "${user:-0}"; then
                uid=$number gid=$primary home=${directory:-/} member=$name
                break
            fi
        done < "$root/etc/passwd"
    fi
    if [ -n "$group" ]; then
        find_group "$group"
        gid=$found member=
    fi
    list=$gid
    if [ -n "$member" ] && [ -e "$root/etc/group" ]; then
        while IFS=: read -r _ _ number members; do
            case ,$members, in *,"$member",*) list=$list,$number ;; esac
        done < "$root/etc/group"
    fi
    for group in "$@"; do
        find_group "$group"
        list=$list,$found
    done
    groups=--groups=$list
}

find_group() {
    found=$1
    [ -e "$root/etc/group" ] || return 0
    while IFS=: read -r name _ number _; do
        if is_entry "$name" "$number" "$1"; then
            found=$number
            return 0
        fi
    done < "$root/etc/group"
}
"""

_HOST_PROGRAM = '"$loader" --library-path "$libraries" "$path_{}"'
_CGROUPS = (MakeCgroups, WriteCgroup, AttachDeviceProgram)
_HOISTED = (SetHostname, SetDomainname)
"""Done first: they write to /proc/sys, which the plan may have made read-only by then."""
_CHAINED = (SetIds, SetCapabilities, NoNewPrivileges, LoadSeccomp, Exec)
_SETPRIV = (SetIds, SetCapabilities, NoNewPrivileges)


def render(plan: Plan) -> str:
    """The whole script. It prints nothing itself, runs the program in the foreground with its exit code, and
    removes what it made."""
    before, clone, after = _split(plan.host)
    parts = [_HEAD, _commands(tuple(step for step in before if not isinstance(step, JoinNamespace)))]
    if clone is not None:
        events = [
            step.event for step in plan.container if isinstance(step, Await) and step.event != "attached"
        ]
        parts.append("".join(f'mkfifo "$scratch/{event}"\n' for event in ("ready", *events)))
        parts += [_file("supervisor", _supervisor(before, clone, after, plan.container))]
        parts += [_file("init", _init(plan.container, events))]
        parts.append(_helper(after) + 'status=0\nsh "$scratch/supervisor" || status=$?\nexit "$status"\n')
    text = "\n".join(part for part in parts if part)
    for leaf in _leaves(plan.host):
        text = text.replace(leaf, f'{leaf}"$own"')
    return text


def _split(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], Clone | None, tuple[Step, ...]]:
    """What comes before init, its making, and what is done to it or beside it. Cgroups are made first,
    wherever the plan has them, as init is attached before it runs."""
    clone = next((index for index, step in enumerate(steps) if isinstance(step, Clone)), len(steps))
    before = tuple(s for index, s in enumerate(steps) if index < clone or isinstance(s, _CGROUPS))
    after = tuple(s for s in steps[clone + 1 :] if not isinstance(s, _CGROUPS))
    fork = steps[clone] if clone < len(steps) else None
    return before, fork if isinstance(fork, Clone) else None, after


def _leaves(steps: tuple[Step, ...]) -> set[str]:
    """Cgroups that processes are put into: the script has its own in their place."""
    leaves = {leaf for step in steps if isinstance(step, AttachCgroups) for leaf in step.leaves}
    leaves |= {step.cgroup for step in steps if isinstance(step, Clone) and step.cgroup}
    made = {path for step in steps if isinstance(step, MakeCgroups) for path in step.directories}
    return {leaf for leaf in leaves & made if quote(leaf) == leaf}


def _commands(steps: tuple[Step, ...]) -> str:
    blocks = []
    for step in steps:
        lines = step.script()
        if lines:
            blocks.append(
                f"# {type(step).__name__}: {step.describe()}".replace("\n", " ")[:160] + f"\n{lines}\n"
            )
    return "\n".join(blocks)


def _file(name: str, text: str) -> str:
    return f"cat > \"$scratch/{name}\" <<'END-OF-{name.upper()}'\n{text}END-OF-{name.upper()}\n"


def _supervisor(
    before: tuple[Step, ...], clone: Clone, after: tuple[Step, ...], container: tuple[Step, ...]
) -> str:
    """The shell that is attached, enters what exists, and becomes unshare, init's parent."""
    attach = tuple(step for step in after if isinstance(step, AttachCgroups | SetOomScore))
    if clone.cgroup:
        attach = (AttachCgroups((clone.cgroup,)), *attach)
    joins = [step.script() + " " for step in (*before, *container) if isinstance(step, JoinNamespace)]
    kept = " --propagation unchanged" if "mount" in clone.namespaces else ""
    cgroup = " --cgroup" if any(isinstance(step, UnshareCgroup) for step in container) else ""
    return (
        "set -eu\ninit=$$\n"
        + _commands(attach)
        + 'echo $$ > "$scratch/pid"\n'
        + f'exec {"".join(joins)}{clone.script()}{kept}{cgroup} sh "$scratch/init"\n'
    )


def _helper(after: tuple[Step, ...]) -> str:
    """What the host does to a running init, beside the foreground."""
    steps = tuple(
        step
        for step in after
        if not isinstance(step, AttachCgroups | SetOomScore)
        and not (isinstance(step, Signal) and step.event == "attached")
    )
    if not steps:
        return ""
    return (
        "helper() {\n"
        'read -r _ < "$scratch/ready"\n'
        'supervisor=$(cat "$scratch/pid")\n'
        'init=$(cat "/proc/$supervisor/task/$supervisor/children")\n'
        "init=${init% }\n"
        "trap '[ $? = 0 ] || kill -KILL \"$supervisor\"' EXIT\n"
        'signal() { echo > "$scratch/$1"; }\n'
        f"{_commands(steps)}}}\n"
        "helper & helper=$!\n"
    )


def _init(steps: tuple[Step, ...], events: list[str]) -> str:
    head = _INIT_HEAD
    # Read and write, so that opening does not wait; from here on, as the path goes with the host's root.
    for number, event in enumerate(events, start=7):
        head += f'exec {number}<>"$scratch/{event}"\n'
    if events:
        cases = " ".join(f"{event}) read -r _ <&{number} ;;" for number, event in enumerate(events, start=7))
        head += f'await() {{ case $1 in {cases} esac; }}\necho > "$scratch/ready"\n'
    first = tuple(step for step in steps if isinstance(step, _HOISTED))
    rest = tuple(
        step for step in steps if not isinstance(step, (*_HOISTED, *_CHAINED, JoinNamespace, UnshareCgroup))
    )
    rest = tuple(step for step in rest if not (isinstance(step, Await) and step.event == "attached"))
    closed = "".join(f" {number}<&-" for number, _ in enumerate(events, start=7))
    return f"{head}\n{_commands((*first, *rest))}\n{_chain(steps)}{closed}\n"


def _chain(steps: tuple[Step, ...]) -> str:
    """``exec`` of setpriv, perl and env, each becoming the next, in the plan's order."""
    words = ["exec"]
    options = [step.script().removeprefix("setpriv ") for step in steps if isinstance(step, _SETPRIV)]
    setpriv = [_HOST_PROGRAM.format("setpriv"), *options] if options else []
    for step in steps:
        # A user without privileges can set nothing more: all of setpriv's work is one program.
        if isinstance(step, _SETPRIV) and step is next(s for s in steps if isinstance(s, _SETPRIV)):
            words += setpriv
        elif isinstance(step, LoadSeccomp):
            words += [_HOST_PROGRAM.format("perl"), "-e", quote(step.perl())]
        elif isinstance(step, Exec):
            directories = [s.path for s in steps if isinstance(s, ChangeDirectory)]
            words += [
                _HOST_PROGRAM.format("env"),
                "-i",
                "-C",
                quote(directories[-1] if directories else "/"),
            ]
            words += ['HOME="$home"', *map(quote, (*step.environment, *step.argv))]
    return " \\\n    ".join(words)
