"""Answers that must match a grammar: xgrammar (arXiv 2411.15100) says which tokens may come next."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from deepseek.errors import ConfigError, require
from deepseek.inference.generation.sampling import Grammar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

KEPT = 128
"""Compiled grammars that are kept, the last used ones."""


class Grammars:
    """Compiles grammars for one model's tokens; may be called from any thread.

    JSON is generated without free whitespace (``{"a": 1, "b": 2}``): small models otherwise go on with blanks until
    their last token.

    Args:
        tokenizer: gives the model's tokenizer; called when the first grammar is compiled.
        vocabulary: size of the model's output.
        ends: tokens that end a text.
    """

    def __init__(self, tokenizer: Callable[[], PreTrainedTokenizerBase], vocabulary: int, ends: frozenset[int]) -> None:
        self._tokenizer, self._vocabulary, self._ends = tokenizer, vocabulary, sorted(ends)
        self._compiler: Any = None
        self._compiled: OrderedDict[Grammar, Any] = OrderedDict()
        self._lock = threading.Lock()
        # a large grammar takes seconds, and the engine's thread looks up compiled ones meanwhile
        self._compiling = threading.Lock()

    def compiled(self, grammar: Grammar) -> Any:
        """The grammar as xgrammar has it.

        Raises:
            ConfigError: it is wrong, or the model has no token that ends a text.
            MissingExtraError: xgrammar is not installed.
        """
        found = self._kept(grammar)
        if found is not None:
            return found
        with self._compiling:
            found = self._kept(grammar)
            if found is None:
                found = self._compile(grammar)
                with self._lock:
                    self._compiled[grammar] = found
                    while len(self._compiled) > KEPT:
                        self._compiled.popitem(last=False)
            return found

    def follower(self, grammar: Grammar) -> Follower:
        """Follow one answer through the grammar. Raises as :meth:`compiled`."""
        return Follower(self.compiled(grammar), self._vocabulary, self._ends)

    def _kept(self, grammar: Grammar) -> Any:
        with self._lock:
            if grammar not in self._compiled:
                return None
            self._compiled.move_to_end(grammar)
            return self._compiled[grammar]

    def _compile(self, grammar: Grammar) -> Any:
        xgrammar = require("xgrammar", "structured")
        if not self._ends:
            raise ConfigError("this model has no token that ends a text, which a grammar needs")
        if self._compiler is None:
            tokens = xgrammar.TokenizerInfo.from_huggingface(
                self._tokenizer(), vocab_size=self._vocabulary, stop_token_ids=self._ends
            )
            self._compiler = xgrammar.GrammarCompiler(tokens, max_threads=1)
        try:
            if grammar.kind == "json-schema":
                return self._compiler.compile_json_schema(grammar.text, any_whitespace=False)
            if grammar.kind == "regex":
                return self._compiler.compile_regex(grammar.text)
            return self._compiler.compile_grammar(xgrammar.Grammar.from_ebnf(grammar.text))
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the grammar is wrong or not supported ({grammar.kind} {grammar.text!r:.80}): {str(error).strip()}"
            ) from error


class Follower:
    """Where one answer stands in its grammar.

    Attributes:
        mask: the tokens that may come next as bits, int32, (1, vocabulary / 32 rounded up).
        complete: whether nothing may follow but the end.
    """

    def __init__(self, compiled: Any, vocabulary: int, ends: list[int]) -> None:
        xgrammar = require("xgrammar", "structured")
        self._matcher = xgrammar.GrammarMatcher(compiled, override_stop_tokens=ends)
        self._ends = ends
        self.mask: torch.Tensor = xgrammar.allocate_token_bitmask(1, vocabulary)
        self.complete = False
        self._fill()

    def accept(self, token: int) -> None:
        """The answer goes on with ``token``, which the mask allowed."""
        accepted = self._matcher.accept_token(token)
        assert accepted, f"token {token} was picked although the grammar does not allow it"
        if self._matcher.is_terminated():
            self.complete = True
            return
        self._fill()

    def without_end(self) -> torch.Tensor:
        """The mask with the tokens that end a text taken out, unless nothing else may follow."""
        import torch

        mask = self.mask.clone()
        for end in self._ends:
            bit = torch.tensor(1 << (end % 32), dtype=torch.int64).to(torch.int32)  # the sign is the last bit
            mask[0, end // 32] &= ~bit
        return mask if mask.any() else self.mask

    def _fill(self) -> None:
        self._matcher.fill_next_token_bitmask(self.mask, 0)
        self.complete = self.without_end() is self.mask
