"""The quickstart: the shipped recipe run end to end, served, called through both protocols, and reported."""

from deepseek.quickstart.calls import Call, call_grpc, call_rest
from deepseek.quickstart.report import write_results

__all__ = ["Call", "call_grpc", "call_rest", "write_results"]
