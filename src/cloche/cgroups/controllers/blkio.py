"""The block I/O controller: ``blkio`` on v1, ``io`` on v2. Weights exist where a scheduler brings them."""

from __future__ import annotations

from cloche.cgroups.contract import Layout, Resources, Write
from cloche.errors import InvalidArgument


def asked(resources: Resources) -> bool:
    return resources.blkio_weight is not None


def v1(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    if resources.blkio_weight is None:
        return []
    value = _checked(resources.blkio_weight)
    # The root has no weight of its own; where it has BFQ's statistics, its children have BFQ's weight.
    if "blkio.bfq.io_service_bytes" in layout.files:
        return [Write(f"{directory}/blkio.bfq.weight", str(value))]
    raise InvalidArgument(
        "--blkio-weight: this kernel has no scheduler with weights (CONFIG_BFQ_GROUP_IOSCHED)"
    )


def v2(layout: Layout, directory: str, resources: Resources) -> list[Write]:
    if resources.blkio_weight is None:
        return []
    value = _checked(resources.blkio_weight)
    if "io.bfq.weight" in layout.files:
        return [Write(f"{directory}/io.bfq.weight", str(value))]
    if "io.weight" in layout.files:
        # 10..1000 to 1..10000, as every runtime does it.
        return [Write(f"{directory}/io.weight", str(1 + (value - 10) * 9999 // 990))]
    raise InvalidArgument("--blkio-weight: this kernel offers neither io.weight nor io.bfq.weight")


def _checked(weight: int) -> int:
    if not 10 <= weight <= 1000:
        raise InvalidArgument(f"--blkio-weight {weight} is not between 10 and 1000")
    return weight
