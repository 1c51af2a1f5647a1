"""A real engine in a temporary root, one for each module of tests, and what it made taken away again."""

from __future__ import annotations

import inspect
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from rig import Rig

from cloche.engine.settings import Settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of a module share the module's engine, hence its event loop."""
    for item in items:
        if "tests/engine/" not in str(item.path):
            continue
        if inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)
        if os.geteuid():
            item.add_marker(pytest.mark.skip(reason="an engine needs root"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig() -> AsyncIterator[Rig]:
    root = tempfile.mkdtemp(prefix="cloche-test-")
    name = f"ct{secrets.token_hex(2)}"
    rig = Rig(Settings(root=f"{root}/lib", run_dir=f"{root}/run", name=name))
    try:
        await rig.open()
        yield rig
    finally:
        await rig.tear_down()
        shutil.rmtree(root)
