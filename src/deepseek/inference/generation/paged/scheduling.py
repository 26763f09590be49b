"""Which tokens of which sequences the next step computes.

Running sequences get their next token first; what is left of the step's tokens goes to prompts, in chunks (Sarathi-
Serve, arXiv 2403.02310). A sequence starts when its whole prompt has room in the cache. When the cache is full the
youngest gives way: its blocks are freed, and it is computed again later from its prompt and what it has answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from deepseek.inference.generation.paged.blocks import BLOCK, BlockPool, blocks_for, chained
from deepseek.inference.generation.paged.drawing import Draws
from deepseek.inference.generation.paged.grammars import Follower
from deepseek.inference.generation.sampling import SamplingParameters


@dataclass(eq=False)
class Running:
    """A sequence and where it stands.

    Attributes:
        number: the engine's.
        tokens: of the prompt, then of the answer.
        prompt: how many are the prompt's.
        sampling: its request.
        draws: the random numbers of its answer.
        adapter: index of its adapter; -1 for none.
        grammar: what its answer must follow.
        computed: first tokens whose keys and values are in the cache.
        drafted: first tokens whose keys and values a draft model has in its cache.
        blocks: of the cache, in the order of its tokens.
        names: of its full blocks that the pool was told of.
    """

    number: int
    tokens: list[int]
    prompt: int
    sampling: SamplingParameters
    draws: Draws
    adapter: int = -1
    grammar: Follower | None = None
    computed: int = 0
    drafted: int = 0
    blocks: list[int] = field(default_factory=list)
    names: list[bytes] = field(default_factory=list)

    @property
    def answered(self) -> int:
        """Tokens of the answer."""
        return len(self.tokens) - self.prompt

    @property
    def left(self) -> int:
        """Tokens that the answer may still have."""
        return self.sampling.max_new_tokens - self.answered


@dataclass(eq=False)
class Chunk:
    """Tokens ``start`` to ``stop`` of a sequence, and after them room for ``guesses`` more that are to be verified."""

    sequence: Running
    start: int
    stop: int
    guesses: int = 0

    @property
    def whole(self) -> bool:
        """Whether the sequence's last token is in it, so that the next one can be picked."""
        return self.stop == len(self.sequence.tokens)


class Scheduler:
    """Keeps sequences, running and waiting, and their blocks.

    Args:
        pool: of the cache's blocks.
        max_sequences, max_step_tokens: see :class:`CoreSettings`; both may be lowered later.
        guesses: how many tokens after its last one a sequence has guesses for.
    """

    def __init__(
        self, pool: BlockPool, max_sequences: int, max_step_tokens: int, guesses: Callable[[Running], int]
    ) -> None:
        self.pool = pool
        self.max_sequences, self.max_step_tokens = min(max_sequences, max_step_tokens), max_step_tokens
        self.running: list[Running] = []  # in the order in which they came
        self.waiting: deque[Running] = deque()
        self.preempted = 0
        self._guesses = guesses

    def add(self, sequence: Running) -> None:
        """Take a sequence up; it waits for room."""
        self.waiting.append(sequence)

    def remove(self, number: int) -> None:
        """Forget a sequence and free its blocks; one that is not known is ignored."""
        for sequence in self.running:
            if sequence.number == number:
                self.running.remove(sequence)
                self._free(sequence)
                return
        self.waiting = deque(s for s in self.waiting if s.number != number)

    def schedule(self) -> list[Chunk]:
        """What to compute now; empty only if there is no sequence. The blocks for it are taken."""
        while len(self.running) > self.max_sequences:
            self._preempt(self.running[-1])
        chunks = self._next_tokens()
        budget = self.max_step_tokens - len(chunks)
        for chunk in chunks:
            chunk.guesses = self._room_for_guesses(chunk.sequence, budget)
            budget -= chunk.guesses
        decoding = {id(chunk.sequence) for chunk in chunks}
        for sequence in self.running:
            if budget and id(sequence) not in decoding:
                budget -= self._prompt_chunk(chunks, sequence, budget)
        while budget and self.waiting and len(self.running) < self.max_sequences and self._start(self.waiting[0]):
            sequence = self.waiting.popleft()
            self.running.append(sequence)
            budget -= self._prompt_chunk(chunks, sequence, budget)
        return chunks

    def computed(self, sequence: Running, tokens: int) -> None:
        """Keys and values of the first ``tokens`` of a sequence are in the cache now."""
        sequence.computed = tokens
        while (len(sequence.names) + 1) * BLOCK <= tokens:
            at = len(sequence.names)
            before = sequence.names[-1] if sequence.names else _root(sequence)
            sequence.names.append(chained(before, sequence.tokens[at * BLOCK : (at + 1) * BLOCK]))
            self.pool.remember(sequence.blocks[at], sequence.names[-1])

    def _next_tokens(self) -> list[Chunk]:
        chunks = []
        for sequence in list(self.running):
            if sequence not in self.running or sequence.computed < len(sequence.tokens) - 1:
                continue  # it gave way for one before it, or its prompt is not computed yet
            if self._fits(sequence):
                chunks.append(Chunk(sequence, sequence.computed, len(sequence.tokens)))
        return chunks

    def _prompt_chunk(self, chunks: list[Chunk], sequence: Running, budget: int) -> int:
        stop = min(len(sequence.tokens), sequence.computed + budget)
        chunks.append(Chunk(sequence, sequence.computed, stop))
        return stop - sequence.computed

    def _start(self, sequence: Running) -> bool:
        """Take the blocks of a waiting sequence, those known already and new ones, if there is room for all."""
        names: list[bytes] = []
        # the last token is always computed: what follows it is in its output, not in the cache
        for at in range(0, len(sequence.tokens) - BLOCK, BLOCK):
            names.append(chained(names[-1] if names else _root(sequence), sequence.tokens[at : at + BLOCK]))
        found = self.pool.find(names)
        need = blocks_for(len(sequence.tokens)) - len(found)
        # one block for each that runs: or this one would soon have to give way again
        spare = len(self.running)
        fresh = self.pool.take(need) if self.pool.available >= need + spare else None
        if fresh is None:
            self.pool.release(found)
            return False
        sequence.blocks = found + fresh
        sequence.names = names[: len(found)]
        # a draft may not have seen all of them: its guesses are worse then, and verified all the same
        sequence.computed = sequence.drafted = len(found) * BLOCK
        return True

    def _fits(self, sequence: Running) -> bool:
        """Give a running sequence the block for its last token; the youngest, perhaps itself, gives way for it."""
        while len(sequence.blocks) < blocks_for(len(sequence.tokens)):
            fresh = self.pool.take(1)
            if fresh is not None:
                sequence.blocks += fresh
                continue
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _room_for_guesses(self, sequence: Running, budget: int) -> int:
        """How many guesses can be verified; nobody gives way for them."""
        count = min(self._guesses(sequence), budget, sequence.left - 1)
        if count <= 0:
            return 0
        need = blocks_for(len(sequence.tokens) + count) - len(sequence.blocks)
        if need > 0:
            fresh = self.pool.take(need) if self.pool.available >= need + len(self.running) else None
            if fresh is None:
                return 0
            sequence.blocks += fresh
        return count

    def give_way(self) -> bool:
        """Free the blocks of the youngest that runs, which is computed again later; false if none runs."""
        if self.running:
            self._preempt(self.running[-1])
            return True
        return False

    def _preempt(self, sequence: Running) -> None:
        self.running.remove(sequence)
        self._free(sequence)
        self.waiting.appendleft(sequence)
        self.preempted += 1

    def _free(self, sequence: Running) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks, sequence.names = [], []
        sequence.computed = sequence.drafted = 0


def _root(sequence: Running) -> bytes:
    """What comes before the first block: another adapter gives other keys and values for the same tokens."""
    return str(sequence.adapter).encode()
