"""Packet filter and translation rules through libnftables: the language of nft(8), applied as one
transaction.
"""

from __future__ import annotations

import ctypes
import errno
from ctypes import c_char_p, c_int, c_uint, c_void_p
from typing import Any

from cloche.kernel.syscall import c_string

_LIBRARY = "libnftables.so.1"


def apply(ruleset: str) -> str:
    """Run nft commands; all of them or none take effect. What they print (``list ...``) is returned.

    The library is loaded here and not at import: it is large, and few processes ever need it. Raises
    ``OSError`` with nft's own message."""
    library = _load()
    context = library.nft_ctx_new(0)
    if not context:
        raise OSError(errno.ENOMEM, "nft_ctx_new: no context")
    try:
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_buffer(context, c_string(ruleset)) != 0:
            text = (library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace").strip()
            raise OSError(errno.EINVAL, f"nft: {text}")
        return (library.nft_ctx_get_output_buffer(context) or b"").decode(errors="replace")
    finally:
        library.nft_ctx_free(context)


def _load() -> Any:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise OSError(
            errno.ENOENT, f"{_LIBRARY} cannot be loaded: {error}; install the package libnftables1"
        ) from None
    library.nft_ctx_new.argtypes = (c_uint,)
    library.nft_ctx_new.restype = c_void_p
    library.nft_ctx_free.argtypes = (c_void_p,)
    library.nft_ctx_free.restype = None
    library.nft_run_cmd_from_buffer.argtypes = (c_void_p, c_char_p)
    library.nft_run_cmd_from_buffer.restype = c_int
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = (c_void_p,)
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = (c_void_p,)
        getattr(library, name).restype = c_char_p
    return library
