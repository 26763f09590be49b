"""A request for an adapter."""

from vllm._facts import Fields


class LoRARequest(Fields):
    of = "LoRARequest"
