"""How the daemon loads what it needs."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import ssl
before = ssl.create_default_context().cert_store_stats()
from cloche.api.daemon import _import_http
_import_http()
from aiohttp import connector
print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509_ca"])
print(ssl.create_default_context().cert_store_stats() == before)
"""


def test_only_the_import_goes_without_certificates() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True"]
