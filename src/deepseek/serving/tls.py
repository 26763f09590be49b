"""TLS for both protocols from one set of files; with ``client_ca``, clients need a certificate too (mutual TLS).

Files are PEM. TLS 1.2 is the oldest version that is spoken: gRPC clients of many languages still stop there.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from deepseek.errors import ConfigError

if TYPE_CHECKING:
    import grpc


class TlsConfig(BaseModel):
    """Where the certificate is, and whose clients are let in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    certificate: Path = Field(description="The server's certificate and those that signed it, PEM.")
    key: Path = Field(description="Its private key, PEM, without a password.")
    client_ca: Path | None = Field(
        default=None, description="Certificates that sign clients' certificates, PEM; clients without one are refused."
    )

    def check(self) -> None:
        """Read the files as the server will; raises :class:`ConfigError` naming the one that is wrong."""
        for name in ("certificate", "key", "client_ca"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.is_file():
                raise ConfigError(f"tls.{name}: expected a PEM file, there is none at {path}")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key, password="")
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConfigError(
                f"tls: {self.certificate} and {self.key} are not a certificate and its key without a password: {error}"
            ) from error
        if self.client_ca is not None:
            try:
                context.load_verify_locations(self.client_ca)
            except (ssl.SSLError, OSError) as error:
                raise ConfigError(f"tls.client_ca: {self.client_ca} holds no certificates: {error}") from error

    def http_options(self) -> dict[str, Any]:
        """Arguments of granian's server."""
        from granian.constants import SSLProtocols

        options: dict[str, Any] = {
            "ssl_cert": self.certificate,
            "ssl_key": self.key,
            "ssl_protocol_min": SSLProtocols.tls12,
        }
        return options if self.client_ca is None else options | {"ssl_ca": self.client_ca, "ssl_client_verify": True}

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """What grpc.aio takes."""
        import grpc

        authority = None if self.client_ca is None else self.client_ca.read_bytes()
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.certificate.read_bytes())],
            root_certificates=authority,
            require_client_auth=authority is not None,
        )
