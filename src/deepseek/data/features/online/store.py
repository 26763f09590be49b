"""What every online store must do, and what readers and materialisers may rely on.

A store holds *records*: byte strings that are ordered as bytes, the newer row of a key being the greater one (see
:mod:`deepseek.data.features.online.record`). A write merges by taking the greater record of each key. Taking the
maximum is idempotent, commutative and associative, so the content of a store depends only on the set of records
that were ever written to it: not on their order, on repeats after a crash, or on how many writers there were.

A *space* is the place of one version of one feature view; spaces never see one another. Each space has a *state*:
bytes in which the materialiser notes how far it is, with a sequence number. A write that carries a state is
refused, before it changes anything, unless it continues the state that the store has, so a writer that was
overtaken cannot bring back what another has removed since. Data and state become visible together, or the data
first: a writer that is killed and starts again from the stored state repeats at most its last write.

Deliberately not here: what records mean, time to live of rows (readers apply it), and scans by value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, TypeAlias

from deepseek.errors import OnlineStoreError

Record: TypeAlias = bytes
KeyRecord: TypeAlias = tuple[bytes, Record]


class Space(NamedTuple):
    """The place of one version of one view."""

    view: str
    version: int

    def __str__(self) -> str:
        return f"{self.view}@{self.version}"


@dataclass(frozen=True)
class State:
    """How far the materialiser of a space is: bytes of its own, and the number of the write that stored them."""

    sequence: int
    progress: bytes


class StaleWriteError(OnlineStoreError):
    """Another writer changed the space since this one read its state; nothing was written."""

    def __init__(self, space: Space, expected: int, found: int) -> None:
        super().__init__(
            f"{space} was written by another process at the same time (expected its state number {expected}, found "
            f"{found}). Nothing is lost: run the materialisation again, one process at a time for a view."
        )


class OnlineStore(ABC):
    """Records by key, in spaces. Safe to share between threads; every process opens its own.

    Keys are any bytes, also empty or with zero bytes, of any length. Usable as a context manager.
    """

    remote: ClassVar[bool]
    """Whether a read waits for another machine."""

    @classmethod
    @abstractmethod
    def open(cls, address: str, **options: Any) -> OnlineStore:
        """Open the store at ``address``, a path or URL.

        Raises:
            OnlineStoreError: it cannot be opened or reached; the message says what to do.
            ConfigError: the address or an option is not one that this store has.
        """

    @property
    @abstractmethod
    def address(self) -> str:
        """The path or URL, without a password."""

    @abstractmethod
    def read(self, space: Space, keys: Sequence[bytes]) -> list[Record | None]:
        """The record of each key, in the order of ``keys``; ``None`` where there is none. One round trip."""

    @abstractmethod
    def write(
        self,
        space: Space,
        records: Sequence[KeyRecord],
        *,
        remove: Sequence[bytes] = (),
        state: State | None = None,
    ) -> int:
        """Remove the keys in ``remove``, then merge ``records``; returns how many keys have another record now.

        The same key may come several times. With a ``state``, its sequence must be one more than the store's (1 for a
        new space), and it is stored with the data or after it.

        Raises:
            StaleWriteError: the space has another state than the one that ``state`` continues; nothing was written.
        """

    @abstractmethod
    def sweep(self, space: Space, below: bytes, *, state: State | None = None) -> int:
        """Remove the records that are less than ``below``; returns how many. ``state`` as in :meth:`write`.

        Bounded memory; a sweep that is killed may be started again.
        """

    @abstractmethod
    def state(self, space: Space) -> State | None:
        """The state of the space; ``None`` if no write brought one."""

    @abstractmethod
    def records(self, space: Space) -> Iterator[KeyRecord]:
        """All keys and records of the space, in no particular order and some perhaps twice; for exports and checks."""

    @abstractmethod
    def spaces(self) -> list[Space]:
        """The spaces that exist, sorted."""

    @abstractmethod
    def clear(self, space: Space) -> None:
        """Remove a space with its state; nothing happens when there is none."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and connections; a closed store is not used again."""

    def __enter__(self) -> OnlineStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"
