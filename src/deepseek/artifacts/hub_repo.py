"""Snapshots of Hugging Face hub repositories: safetensors, configuration and tokenizer files only, or files by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from deepseek.artifacts.cache import offline
from deepseek.errors import FetchError

SAFE_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.md",
    "LICENSE*",
)
"""What a snapshot takes. Pickled weights (``*.bin``, ``*.pt``) and code (``*.py``) stay where they are."""

CONNECT_TIMEOUT_S = 5.0


def snapshot(
    repo_id: str,
    revision: str | None = None,
    *,
    alternative: str = "",
    kind: Literal["model", "dataset"] = "model",
    patterns: Sequence[str] = SAFE_PATTERNS,
) -> Path:
    """Return the local folder of a hub repository, downloading what is missing.

    Args:
        repo_id: ``"owner/name"``.
        revision: branch, tag or commit; ``None`` is the default branch.
        alternative: what else the user could do, put into the error when the hub cannot be reached.
        kind: models and data sets with equal names are different repositories.
        patterns: the files to take.

    Raises:
        FetchError: the repository is not cached and the hub cannot be reached, refuses, or has no such repository.
    """
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def cached() -> Path | None:
        try:
            return Path(
                huggingface_hub.snapshot_download(
                    repo_id, repo_type=kind, revision=revision, allow_patterns=list(patterns), local_files_only=True
                )
            )
        except (LocalEntryNotFoundError, FileNotFoundError):
            return None

    reason = ""
    if offline() or not _reachable():
        if found := cached():
            return found
        reason = "set to work offline" if offline() else f"the hub ({_host()}) cannot be reached"
    else:
        try:
            return Path(
                huggingface_hub.snapshot_download(
                    repo_id, repo_type=kind, revision=revision, allow_patterns=list(patterns)
                )
            )
        except GatedRepoError:
            reason = "it is gated: accept its licence on its hub page, then run `hf auth login`"
        except RevisionNotFoundError:
            reason = f"it has no revision {revision!r}"
        except RepositoryNotFoundError:
            reason = "no such repository on the hub (or it is private: run `hf auth login`)"
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
    raise FetchError(
        f"could not fetch {repo_id!r} from the Hugging Face hub: {reason}. What you can do: connect to a network, set "
        f"HF_ENDPOINT to a mirror, or copy the repository here and give its folder's path instead of its name."
        + (f" {alternative}" if alternative else "")
    )


def _host() -> str:
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).hostname or constants.ENDPOINT


def _reachable() -> bool:
    """One short HEAD request: the hub's client would retry for a minute before it gave up."""
    import requests
    from huggingface_hub import constants

    try:
        requests.head(constants.ENDPOINT, timeout=CONNECT_TIMEOUT_S)
    except requests.RequestException:
        return False
    return True
