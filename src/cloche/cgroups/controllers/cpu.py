"""The cpu controller: shares and bandwidth (Documentation/scheduler/sched-bwc.rst, cgroup-v2.rst)."""

from __future__ import annotations

import math

from cloche.cgroups.contract import Layout, Resources, Write
from cloche.errors import InvalidArgument


def asked(resources: Resources) -> bool:
    return any(
        value is not None for value in (resources.cpu_shares, resources.cpu_quota, resources.cpu_period)
    )


def v1(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    _check(layout, resources)
    writes = []
    if resources.cpu_shares is not None:
        writes.append(Write(f"{directory}/cpu.shares", str(resources.cpu_shares)))
    if resources.cpu_period is not None:
        writes.append(Write(f"{directory}/cpu.cfs_period_us", str(resources.cpu_period)))
    if resources.cpu_quota is not None:
        writes.append(Write(f"{directory}/cpu.cfs_quota_us", str(resources.cpu_quota)))
    return writes


def v2(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    writes = []
    if resources.cpu_shares is not None:
        writes.append(Write(f"{directory}/cpu.weight", str(weight(resources.cpu_shares))))
    if resources.cpu_quota is not None or resources.cpu_period is not None:
        quota = resources.cpu_quota
        limit = "max" if quota is None or quota < 0 else str(quota)
        period = "" if resources.cpu_period is None else f" {resources.cpu_period}"
        writes.append(Write(f"{directory}/cpu.max", limit + period))
    return writes


def weight(shares: int) -> int:
    """v1 shares (2 to 262144, 1024 the default) as v2 weight (1 to 10000, 100 the default): the curve
    through those three points that runc, crun and Kubernetes agreed on in 2025, ``10^((l^2 + 125 l) / 612
    - 7/34)``, l = log2."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    logarithm = math.log2(shares)
    return math.ceil(10 ** ((logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34))


def _check(layout: Layout, resources: Resources) -> None:
    bandwidth = resources.cpu_quota is not None or resources.cpu_period is not None
    if bandwidth and "cpu.cfs_quota_us" not in layout.files:
        raise InvalidArgument("--cpus and --cpu-quota: this kernel is built without CONFIG_CFS_BANDWIDTH")
    if resources.cpu_shares is not None and "cpu.shares" not in layout.files:
        raise InvalidArgument("--cpu-shares: this kernel is built without CONFIG_FAIR_GROUP_SCHED")
