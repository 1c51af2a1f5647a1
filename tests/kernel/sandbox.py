"""Run a piece of a test in a forked process that may unshare what it likes and takes all of it along."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import TypeVar

from cloche.kernel import mounts, namespaces

Value = TypeVar("Value")


def forked(work: Callable[[], Value], flags: int = 0) -> Value:
    """Call ``work`` in a child with new namespaces (``flags`` CLONE_NEW*); its result or failure.

    In a new mount namespace all mounts are private."""
    reader, writer = os.pipe()
    pid = namespaces.clone3(flags)
    if pid == 0:
        answer: tuple[bool, object]
        try:
            if flags & namespaces.CLONE_NEWNS:
                mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
            answer = True, work()
        except BaseException:
            answer = False, traceback.format_exc()
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise AssertionError(f"the child ended without an answer: wait status {status:#x}")
    succeeded, value = pickle.loads(data)
    if not succeeded:
        raise AssertionError(f"in the child:\n{value}")
    result: Value = value
    return result
