"""Packages of an npm registry, fetched by exact version and SHA-256, and opened as tar archives only.

The npm client fetches them (``npm pack``), so its configuration decides on the registry, proxy and certificates, and it
checks the registry's own integrity hash. Nothing is installed and no script of a package is run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from deepseek.artifacts.cache import DownloadError, cache_dir

TIMEOUT_S = 900


@dataclass(frozen=True, kw_only=True)
class NpmFile:
    """The archive of one version of an npm package; ``sha256`` decides whether it is the right one."""

    project: str
    version: str
    sha256: str
    license: str

    @property
    def filename(self) -> str:
        """The archive's name, as ``npm pack`` gives it: ``@scope/name`` becomes ``scope-name``."""
        return f"{self.project.lstrip('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def cached(self) -> Path:
        """Where the verified file lies once it was fetched."""
        return cache_dir() / "packages" / self.sha256[:16] / self.filename

    @property
    def mirror_hint(self) -> str:
        """What to set to fetch from elsewhere."""
        return "set npm's registry (npm config set registry, or NPM_CONFIG_REGISTRY) to one that you can reach"

    def download(self, part: Path) -> None:
        """Write the archive to ``part``; raises :class:`DownloadError`."""
        npm = shutil.which("npm")
        if npm is None:
            raise DownloadError("the npm client is not installed (it comes with Node.js)", final=True)
        with tempfile.TemporaryDirectory(prefix=".npm-", dir=part.parent) as folder:
            command = [npm, "pack", f"{self.project}@{self.version}", "--ignore-scripts", "--json", "--silent"]
            try:
                done = subprocess.run(  # noqa: S603 - a fixed command with a pinned package
                    [*command, "--pack-destination", folder],
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    timeout=TIMEOUT_S,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise DownloadError(f"npm pack failed: {error}") from error
            archives = list(Path(folder).glob("*.tgz"))
            if done.returncode != 0 or len(archives) != 1:
                raise DownloadError(f"npm pack failed: {_reason(done.stdout, done.stderr)}", final=True)
            archives[0].replace(part)


def _reason(output: str, errors: str) -> str:
    try:
        told = json.loads(output)["error"]
        return f"{told.get('code', '')} {told.get('summary', '')}".strip()
    except (ValueError, KeyError, TypeError, AttributeError):
        lines = (errors or output).strip().splitlines()
        return lines[0] if lines else "no reason given"
