"""What changed in a table's rows between two of its versions, told by their manifests and not by time columns.

Comparing fragments finds late data whatever its event times, as a watermark over event times does not. A fragment
is known by the data files that hold the columns asked for: its number may come again after a table was replaced,
its random file names do not, and files of columns that nobody asked for play no part. Compaction is followed
through the transactions between the versions, so that rows which only moved are not read again; where a transaction
is gone, or merged seen with unseen fragments, the old rows count as removed and the new ones as unseen, which is
slower and as right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import lance

Files: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """From an old version to a new one; all numbers are of fragments.

    Attributes:
        unseen: fragments of the new version with rows that the old one did not have.
        moved: fragments of the old version to those of the new one that have their rows now.
        removed: fragments of the old version of whose rows some are gone, or changed in place; true: take all for gone.
    """

    unseen: tuple[int, ...]
    moved: Mapping[int, tuple[int, ...]]
    removed: Mapping[int, bool]


class Manifest:
    """The fragments of one version, and the data files that hold the columns ``names``.

    Raises:
        KeyError: it lacks one of the columns.
    """

    def __init__(self, dataset: Any, names: Sequence[str]) -> None:
        self.version = int(dataset.version)
        if missing := [name for name in names if name not in dataset.schema.names]:
            raise KeyError(missing[0])
        self.fields = {number for name in names for number in _numbers(dataset.lance_schema.field(name))}
        self.fragments: dict[int, Files] = {}
        self.deletions: dict[int, str | None] = {}
        for fragment in dataset.get_fragments():
            self.fragments[fragment.fragment_id] = self.files(fragment.metadata)
            self.deletions[fragment.fragment_id] = fragment.deletion_file()

    def files(self, metadata: Any) -> Files:
        """The data files of a fragment that hold any of the columns; also patches of single values (overlays)."""
        files = [file.path for file in metadata.files if self.fields.intersection(file.fields)]
        return (*files, *(repr(overlay) for overlay in metadata.overlays))

    def signature(self) -> str:
        """Equal for equal rows of one table, different for any other table."""
        content = [(number, files, self.deletions[number]) for number, files in sorted(self.fragments.items())]
        return hashlib.sha256(repr(content).encode()).hexdigest()


def _numbers(field: Any) -> Iterator[int]:
    yield field.id()
    for child in field.children():
        yield from _numbers(child)


def changes(path: str, old: Manifest, new: Manifest) -> Changes:
    """What changed from ``old`` to ``new``, two versions of the table at ``path``."""
    numbers = {files: number for number, files in new.fragments.items()}
    unseen = set(new.fragments)
    moved: dict[int, tuple[int, ...]] = {}
    removed = dict.fromkeys(old.fragments, True)
    shrinkable: set[int] = set()
    for number, files in old.fragments.items():
        if new.fragments.get(number) == files:
            unseen.discard(number)
            moved[number] = (number,)
            removed[number] = False
            if new.deletions[number] == old.deletions[number]:
                del removed[number]
            elif old.deletions[number] is not None:
                shrinkable.add(number)
    if shrinkable and _restored(path, old, new):
        unseen |= shrinkable  # rows that had been deleted may be back
    followed = _followed(path, old, new) if old.fragments.keys() - new.fragments.keys() else {}
    broken: set[int] = set()
    for files, (sources, intact) in followed.items():
        number = numbers.get(files, -1)
        unseen.discard(number)
        for source in sources if number >= 0 else ():
            moved[source] = (*moved.get(source, ()), number)
        if not intact or number < 0 or new.deletions[number] is not None:
            broken |= sources
    for sources, _ in followed.values():
        for source in sources - broken:
            removed.pop(source, None)
    return Changes(unseen=tuple(n for n in new.fragments if n in unseen), moved=moved, removed=removed)


def _restored(path: str, old: Manifest, new: Manifest) -> bool:
    """Whether an earlier version was restored in between; also true where that cannot be known any more."""
    dataset = lance.dataset(path, version=new.version)
    for version in range(old.version + 1, new.version + 1):
        try:
            operation = dataset.read_transaction(version).operation
        except (ValueError, OSError, NotImplementedError):
            return True
        if isinstance(operation, lance.LanceOperation.Restore):
            return True
    return False


def _followed(path: str, old: Manifest, new: Manifest) -> dict[Files, tuple[frozenset[int], bool]]:
    """Files that compaction wrote -> the old fragments whose rows they hold, and whether they hold all of them."""
    if old.fields != new.fields:
        return {}
    origins: dict[Files, tuple[frozenset[int], bool]] = {
        files: (frozenset([number]), True) for number, files in old.fragments.items()
    }
    deleted = {files: _count(lance.dataset(path, version=old.version), number) for number, files in _deleted(old)}
    dataset = lance.dataset(path, version=new.version)
    for version in range(old.version + 1, new.version + 1):
        try:
            operation = dataset.read_transaction(version).operation
        except (ValueError, OSError):
            return {}
        if not isinstance(operation, lance.LanceOperation.Rewrite):
            continue
        for group in operation.groups:
            before = [new.files(fragment) for fragment in group.old_fragments]
            if not all(files in origins for files in before):
                for files in before:
                    origins.pop(files, None)
                continue
            intact = all(
                (fragment.deletion_file.num_deleted_rows if fragment.deletion_file else 0) == deleted.get(files, 0)
                for fragment, files in zip(group.old_fragments, before, strict=True)
            )
            sources = frozenset(source for files in before for source in origins[files][0])
            intact = intact and all(origins[files][1] for files in before)
            for files in before:
                del origins[files]
            for fragment in group.new_fragments:
                origins[new.files(fragment)] = (sources, intact)
    return {files: origin for files, origin in origins.items() if files not in set(old.fragments.values())}


def _deleted(manifest: Manifest) -> list[tuple[int, Files]]:
    return [(number, files) for number, files in manifest.fragments.items() if manifest.deletions[number]]


def _count(dataset: Any, number: int) -> int:
    return int(dataset.get_fragment(number).num_deletions)
