"""A certificate of our own for the loopback address, made by openssl for a day."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.serving_parts.wrk import installed


def made(folder: Path) -> dict[str, str]:
    """Paths of ``certificate`` and ``key``, PEM; ECDSA on P-256, as public authorities issue by default."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    openssl = installed("openssl", "openssl")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate": str(certificate), "key": str(key)}
