"""The files that ship for Prometheus and Grafana: rules, a dashboard, an example of a scrape configuration."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from deepseek.errors import ConfigError

FILES = ("deepseek.rules.yml", "deepseek.dashboard.json", "prometheus.yml")
"""Prometheus' recording and alert rules; Grafana's dashboard with a row for each axis; how a server is scraped."""


def export_rules(folder: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
    """Write the files into a folder, which is made if need be; returns their paths.

    Raises:
        ConfigError: one is there with other content and ``overwrite`` is not set (nothing was written then), or the
            folder cannot be written.
    """
    target = Path(folder).expanduser()
    contents = {name: (files(__package__) / name).read_bytes() for name in FILES}
    try:
        changed = [n for n, body in contents.items() if (target / n).exists() and (target / n).read_bytes() != body]
        if changed and not overwrite:
            raise ConfigError(
                f"{target} has its own {', '.join(changed)}; give another folder, or overwrite (--overwrite)"
            )
        target.mkdir(parents=True, exist_ok=True)
        for name, body in contents.items():
            (target / name).write_bytes(body)
    except OSError as error:
        raise ConfigError(f"cannot write the monitoring files to {target}: {error.strerror or error}") from error
    return [target / name for name in FILES]
