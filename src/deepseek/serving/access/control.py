"""Access control of one server: who asks, whether they may, what they used.

The gateway calls :meth:`AccessControl.authenticate`, :meth:`~AccessControl.admit` and :meth:`~AccessControl.charge` for
every request, on the event loop. With SQLite none of them waits; with Redis, ``admit`` is one round trip that many
requests share, and nothing for keys without limits.

What a request takes from the limits, it takes when it is admitted, whether it is answered or fails. Usage is what was
answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from deepseek.serving.access.admin import AccessAdmin
from deepseek.serving.access.clock import DAY_SECONDS, Clock, day_number
from deepseek.serving.access.config import AccessConfig
from deepseek.serving.access.directory import KeyDirectory, KeyPrincipal
from deepseek.serving.access.ledger import Use
from deepseek.serving.access.refusals import LimitExceededError
from deepseek.serving.access.store import AccessStore, AccessStoreError, open_store
from deepseek.serving.errors import PermissionDeniedError

if TYPE_CHECKING:
    from deepseek.serving.gateway import Access, Principal

logger = logging.getLogger("deepseek.serving")

SYNC_SECONDS = 0.5
"""Time between two exchanges with the store: half the second within which revocations are noticed and counts stored."""
CONTACT_SECONDS = 2.0
"""Time after which a store that must be reached, and is not, is no longer trusted to have told every revocation."""


class AccessControl:
    """Implements :class:`deepseek.serving.gateway.Access`; make one with :meth:`open`."""

    def __init__(self, config: AccessConfig, store: AccessStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._ledger = store.ledger
        self._wall = clock.wall
        self._directory = KeyDirectory(config.all_plans, store.account, clock.wall)
        self._from, self._to = 0.0, 0.0
        self._contact = clock.monotonic()
        self._ending = asyncio.Event()
        self._syncing: asyncio.Task[None] | None = None
        self.authenticate = self._directory.find
        self.admin = AccessAdmin(store, config, clock, changed=self._directory.update)
        """Operations on keys; what they change holds here at once."""

    @classmethod
    async def open(cls, config: AccessConfig, clock: Clock | None = None) -> AccessControl:
        """Open the store, read all keys, and exchange with the store from now on.

        Raises:
            ConfigError: the store's address is wrong.
            AccessStoreError: the store cannot be opened or reached.
            MissingExtraError: the store's client library is not installed.
        """
        clock = clock or Clock()
        store = open_store(config.store, clock, fail_open=config.fail_open, keep_usage_days=config.keep_usage_days)
        await store.open()
        control = cls(config, store, clock)
        try:
            await control.sync()
        except BaseException:
            await store.close()
            raise
        if not len(control._directory):
            logger.warning("there is no API key in %s yet; make one with: deepseek keys create NAME", store.name)
        control._syncing = asyncio.get_running_loop().create_task(control._keep_in_step())
        return control

    async def close(self) -> None:
        """Store what waits, and close the store."""
        self._ending.set()
        if self._syncing is not None:
            await self._syncing
        await self._store.close()

    def admit(self, principal: Principal, model: str, rows: int) -> Awaitable[None] | None:
        """Take a request of ``rows`` inferences from the key's limits, at once or after a round trip.

        Raises:
            PermissionDeniedError: the key does not cover the model.
            LimitExceededError: a limit of the key's plan is used up.
            NotReadyError: the store does not answer, and is needed.
        """
        assert isinstance(principal, KeyPrincipal)
        if not self._from <= self._wall() < self._to:
            self._turn()
        use = principal.uses.get(model)
        if use is None:
            use = self._use(principal, model)
        if not principal.limited:
            return None
        try:
            waiting = self._store.admit(principal.account, rows)
        except LimitExceededError:
            self._refused(use)
            raise
        return None if waiting is None else self._decided(waiting, use)

    def charge(self, principal: Principal, model: str, rows: int, input_tokens: int, output_tokens: int) -> None:
        """Record what an answered request used."""
        assert isinstance(principal, KeyPrincipal)
        use = principal.uses.get(model)
        if use is None:
            use = self._use(principal, model)
        use.requests += 1
        use.rows += rows
        if not use.marked:
            self._ledger.mark(use)
        if input_tokens or output_tokens:
            use.input_tokens += input_tokens
            use.output_tokens += output_tokens
            self._store.spend(principal.account, input_tokens + output_tokens)

    async def sync(self) -> None:
        """Store what waits and learn which keys changed; raises :class:`AccessStoreError`.

        This happens by itself every ``SYNC_SECONDS``.
        """
        changes = await self._store.sync()
        self._contact = self._clock.monotonic()
        self._directory.resume()
        if changes.complete:
            self._directory.replace(changes.records)
        else:
            for record in changes.records:
                self._directory.update(record)

    async def _keep_in_step(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), SYNC_SECONDS)
            try:
                await self.sync()
            except AccessStoreError:  # the store has told the log
                if self._store.needs_contact and self._clock.monotonic() - self._contact > CONTACT_SECONDS:
                    self._directory.suspend()
            except Exception:  # a fault of ours; ending here would let revoked keys in for ever
                logger.exception("the exchange with the key store failed; it goes on")

    async def _decided(self, waiting: Awaitable[None], use: Use) -> None:
        try:
            await waiting
        except LimitExceededError:
            self._refused(use)
            raise

    def _use(self, principal: KeyPrincipal, model: str) -> Use:
        if not principal.allows(model):
            raise PermissionDeniedError(f"API key {principal.key_id} does not cover model {model!r}")
        use = principal.uses[model] = self._ledger.use(principal.key_id, model)
        return use

    def _refused(self, use: Use) -> None:
        use.refused += 1
        if not use.marked:
            self._ledger.mark(use)

    def _turn(self) -> None:
        day = day_number(self._wall())
        self._from = float(day * DAY_SECONDS)
        self._to = self._from + DAY_SECONDS
        self._ledger.turn(day)


if TYPE_CHECKING:

    def _implements(control: AccessControl) -> Access:
        return control
