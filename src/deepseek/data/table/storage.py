"""Access to object stores: options given once, kept in memory only, and never shown.

``storage_options`` are those of Lance's object store, for S3 for example ``aws_access_key_id``,
``aws_secret_access_key``, ``aws_endpoint``, ``aws_region`` and ``allow_http``. Options given for one table of a bucket
serve the later ones of that bucket in this process, so that a table's rejects or journal need no second mention. The
standard ``AWS_*`` variables of the environment fill in what is not given. Nothing here is written to a table, and
:func:`redact` takes whatever secret a library's message may repeat out of our errors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from deepseek.data.table import location
from deepseek.errors import ConfigError

_SECRET = re.compile(r"key|secret|token|password|credential|sas|signature", re.IGNORECASE)
_ENDPOINTS = ("aws_endpoint", "endpoint", "aws_endpoint_url", "endpoint_url", "aws_endpoint_url_s3")
_remembered: dict[str, dict[str, str]] = {}
_secrets: set[str] = set()


def options_for(path: str, given: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """The options to reach ``path`` with; ``None`` for a local path.

    Raises:
        ConfigError: options for a local path, or a value that is no text.
    """
    if not location.is_remote(path):
        if given:
            raise ConfigError(f"storage_options: expected none for the local path {path}, received {sorted(given)}")
        return None
    parts = urlsplit(path)
    bucket = f"{parts.scheme}://{parts.netloc}"
    if given:
        for name, value in given.items():
            if not isinstance(value, str):
                raise ConfigError(f"storage_options: {name}: expected a text, received {type(value).__name__}")
        _remembered[bucket] = {name.lower(): value for name, value in given.items()}
    options = dict(_remembered.get(bucket, {}))
    _note_secrets(options)
    if parts.scheme.startswith("s3"):
        _complete_s3(options)
    return options


def _complete_s3(options: dict[str, str]) -> None:
    environment = {name.lower(): value for name, value in os.environ.items() if name.startswith("AWS_")}
    _note_secrets(environment)
    endpoint = next((source[n] for source in (options, environment) for n in reversed(_ENDPOINTS) if n in source), None)
    if endpoint is None:
        return
    for name in _ENDPOINTS:
        options.pop(name, None)
    options["aws_endpoint"] = endpoint
    if endpoint.startswith("http://"):
        options.setdefault("allow_http", "true")
    if not any(name in source for source in (options, environment) for name in ("region", "aws_region")):
        options["aws_region"] = environment.get("aws_default_region", "us-east-1")


def _note_secrets(options: Mapping[str, str]) -> None:
    _secrets.update(value for name, value in options.items() if _SECRET.search(name) and len(value) >= 4)


def redact(text: str) -> str:
    """``text`` without the secrets that options or the environment have brought."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def is_clean(error: BaseException) -> bool:
    """Whether an error's text, and that of what caused it, repeats no secret, so that it may be chained."""
    seen: BaseException | None = error
    while seen is not None:
        if redact(str(seen)) != str(seen):
            return False
        seen = seen.__cause__ or seen.__context__
    return True
