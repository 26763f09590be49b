"""The engine: sequences of one model of transformers, in steps of bounded size."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import transformers
import xgrammar

from vllm._facts import Fields
from vllm._outputs import CompletionOutput, Logprob, RequestOutput
from vllm._sampling import next_token
from vllm.exceptions import VLLMValidationError


class EngineArgs(Fields):
    of = "EngineArgs"


@dataclass
class _Request:
    name: str
    prompt: list[int]
    parameters: Any
    lora: Any
    matcher: Any
    draw: Any
    cache: Any = field(default_factory=transformers.DynamicCache)
    computed: int = 0
    answer: list[int] = field(default_factory=list)


class LLMEngine:
    """``made`` are the arguments of all engines of this process, for tests to read."""

    made: list[EngineArgs] = []

    def __init__(self, arguments: Any) -> None:
        path, kind = arguments.model, arguments.dtype
        self.made.append(arguments)
        self._arguments = arguments
        dtype = "auto" if kind == "auto" else getattr(torch, kind)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.tokenizer)
        positions = self._model.config.max_position_embeddings
        if arguments.max_model_len > positions:
            raise ValueError(f"User-specified max_model_len ({arguments.max_model_len}) is greater than {positions}")
        if arguments.max_num_batched_tokens < arguments.max_num_seqs:
            raise ValueError("max_num_batched_tokens must be greater than or equal to max_num_seqs")
        length = positions if arguments.max_model_len == -1 else arguments.max_model_len
        model_config = SimpleNamespace(max_model_len=length, max_logprobs=arguments.max_logprobs)
        self.vllm_config = SimpleNamespace(
            model_config=model_config,
            speculative_config=arguments.speculative_config,
            structured_outputs_config=object(),
        )
        self.engine_core = SimpleNamespace(shutdown=self._shut_down)
        self._requests: dict[str, _Request] = {}
        self._compiler: Any = None

    @classmethod
    def from_engine_args(
        cls, engine_args: Any, usage_context: Any = None, stat_loggers: Any = None, enable_multiprocessing: bool = False
    ) -> "LLMEngine":
        return cls(engine_args)

    def get_tokenizer(self) -> Any:
        return self._tokenizer

    def add_request(
        self, request_id: str, prompt: Any, params: Any, arrival_time: Any = None, lora_request: Any = None,
        tokenization_kwargs: Any = None, trace_headers: Any = None, priority: int = 0, session_id: Any = None,
        prompt_text: Any = None, kv_hints: Any = None,
    ) -> str:  # fmt: skip
        if not isinstance(request_id, str):
            raise TypeError(f"request_id must be a string, got {type(request_id)}")
        config = self.vllm_config
        params.verify(config.model_config, config.speculative_config, config.structured_outputs_config, self._tokenizer)
        ids = list(prompt["prompt_token_ids"])
        if len(ids) >= config.model_config.max_model_len:
            raise VLLMValidationError(f"The prompt of {len(ids)} tokens is longer than the maximum model length")
        if lora_request is not None:
            if not self._arguments.enable_lora:
                raise VLLMValidationError("Got lora_request but LoRA is not enabled!")
            self._load(lora_request)
        draw = torch.Generator()
        draw.seed() if params.seed is None else draw.manual_seed(params.seed)
        self._requests[request_id] = _Request(request_id, ids, params, lora_request, self._matcher(params), draw)
        return f"{request_id}-internal"

    def abort_request(self, request_ids: list[str], internal: bool = False) -> None:
        for name in request_ids:
            self._requests.pop(name, None)

    def has_unfinished_requests(self) -> bool:
        return bool(self._requests)

    def step(self) -> list[RequestOutput]:
        room, outputs = self._arguments.max_num_batched_tokens, []
        for request in list(self._requests.values())[: self._arguments.max_num_seqs]:
            tokens = [*request.prompt, *request.answer][request.computed :][:room]
            if not tokens:
                break
            room -= len(tokens)
            logits = self._forward(request, tokens)
            if request.computed == len(request.prompt) + len(request.answer):
                outputs.append(self._sampled(request, logits))
        return outputs

    @torch.inference_mode()
    def _forward(self, request: _Request, tokens: list[int]) -> torch.Tensor:
        if request.lora is not None:
            self._model.set_adapter(request.lora.lora_name)
        elif hasattr(self._model, "peft_config"):
            self._model.base_model.disable_adapter_layers()
        out = self._model(input_ids=torch.tensor([tokens]), past_key_values=request.cache, use_cache=True)
        if request.lora is None and hasattr(self._model, "peft_config"):
            self._model.base_model.enable_adapter_layers()
        request.computed += len(tokens)
        return out.logits[0, -1]

    def _sampled(self, request: _Request, logits: torch.Tensor) -> RequestOutput:
        """One token, or with speculation up to two."""
        rows, before = [], len(request.answer)
        while True:
            reason, stop = self._take(request, logits, rows)
            if reason or not self.vllm_config.speculative_config or len(rows) == 2:
                break
            logits = self._forward(request, request.answer[-1:])
        if reason:
            del self._requests[request.name]
        completion = CompletionOutput(
            index=0, text="", token_ids=request.answer[before:], finish_reason=reason, stop_reason=stop,
            logprobs=None if request.parameters.logprobs is None else rows,
        )  # fmt: skip
        return RequestOutput(request.name, None, request.prompt, None, [completion], reason is not None)

    def _take(self, request: _Request, logits: torch.Tensor, rows: list[Any]) -> tuple[str | None, int | None]:
        parameters, end = request.parameters, self._tokenizer.eos_token_id
        ends = {end, *(parameters.stop_token_ids or ())}
        token = next_token(logits, parameters, request.prompt, request.answer, ends, request.matcher, request.draw)
        request.answer.append(token)
        logprobs = torch.log_softmax(logits.float(), -1)
        best = logprobs.topk(parameters.logprobs or 0).indices.tolist()
        ranks = [int((logprobs > logprobs[token]).sum()) + 1, *range(1, len(best) + 1)]
        rows.append(
            {t: Logprob(logprob=float(logprobs[t]), rank=r) for t, r in zip([token, *best], ranks, strict=True)}
        )
        if request.matcher is not None:
            assert request.matcher.accept_token(token)
        if token == end and not parameters.ignore_eos:
            return "stop", None
        if token in (parameters.stop_token_ids or ()):
            return "stop", token
        whole = len(request.prompt) + len(request.answer) >= self.vllm_config.model_config.max_model_len
        return ("length", None) if whole or len(request.answer) >= parameters.max_tokens else (None, None)

    def _matcher(self, parameters: Any) -> Any:
        if parameters.structured_outputs is None:
            return None
        if self._compiler is None:
            size = self._model.config.vocab_size
            self._compiler = xgrammar.GrammarCompiler(
                xgrammar.TokenizerInfo.from_huggingface(self._tokenizer, vocab_size=size)
            )
        return xgrammar.GrammarMatcher(self._compiler.compile_grammar(parameters.structured_outputs.grammar_of()))

    def _load(self, lora: Any) -> None:
        import peft

        if not hasattr(self._model, "peft_config"):
            self._model = peft.PeftModel.from_pretrained(
                self._model, lora.lora_path, adapter_name=lora.lora_name
            ).eval()
        elif lora.lora_name not in self._model.peft_config:
            self._model.load_adapter(lora.lora_path, adapter_name=lora.lora_name)

    def _shut_down(self, timeout: float | None = None) -> None:
        self._requests.clear()
        self._model = None
