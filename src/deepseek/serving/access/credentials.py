"""API keys as a client holds them: ``ds_<public id>_<secret>``.

The id is public: it names the key in lists, logs and usage. The secret is 32 random bytes from the operating system
(256 bits, base64url), and only its SHA-256 is stored. A slow, salted hash (bcrypt, argon2) protects *passwords*, which
people choose from few; there is nothing to guess among 2^256 equally likely secrets, whatever a hash costs, and a slow
one would let anybody spend our processor time by sending wrong keys (the reasoning of OWASP's Password Storage Cheat
Sheet; NIST SP 800-63B, 5.1.2.2, for look-up secrets of 112 bits and more). For the same reason there is no lock-out.
Digests are compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from deepseek.serving.errors import AuthenticationError

if TYPE_CHECKING:
    from deepseek.serving.gateway import Headers

PREFIX = "ds_"
_ID_BYTES = 8
_SECRET_BYTES = 32
_LONGEST = 256
_HOW = "send it as 'Authorization: Bearer ds_...' or 'x-api-key: ds_...'"


def new_id() -> str:
    """A new public id: 16 hexadecimal digits."""
    return secrets.token_hex(_ID_BYTES)


def new_secret() -> str:
    """A new secret of 256 bits, url-safe."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def join(key_id: str, secret: str) -> str:
    """The key as its holder gets it."""
    return f"{PREFIX}{key_id}_{secret}"


def digest(secret: str) -> str:
    """What is stored of a secret: its SHA-256, in hexadecimal. What a client sends as one may be any text."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def matches(secret: str, stored: str) -> bool:
    """Whether a secret has the stored digest, compared in constant time."""
    return hmac.compare_digest(digest(secret), stored)


def credential(headers: Headers) -> str | None:
    """The header value with the key: ``authorization`` if it has one (RFC 6750, or bare), else ``x-api-key``."""
    value = headers.get("authorization")
    if value is not None and (value[:7].lower() == "bearer " or value.startswith(PREFIX)):
        return value
    return headers.get("x-api-key")


def split(value: str | None) -> tuple[str, str]:
    """(public id, secret) of a header's value.

    Raises:
        AuthenticationError: there is no key, or it has not the form of one. What came is not repeated.
    """
    if value is None:
        raise AuthenticationError(f"expected an API key, received none; {_HOW}")
    if len(value) <= _LONGEST:
        if value[:7].lower() == "bearer ":
            value = value[7:]
        prefix, _, rest = value.strip().partition("_")
        key_id, _, secret = rest.partition("_")
        if f"{prefix}_" == PREFIX and key_id and secret:
            return key_id, secret
    raise AuthenticationError(f"expected an API key of the form ds_<id>_<secret>, received something else; {_HOW}")
