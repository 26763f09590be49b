"""What was read from the wheel; fields and their defaults come from here, so that the stub has no others."""

import json
from pathlib import Path
from typing import Any

FACTS = json.loads((Path(__file__).parents[2] / "vllm_facts.json").read_text(encoding="utf-8"))


class Fields:
    """An object with the fields of a class of vLLM's, given by name or in their order."""

    of: str

    def __init__(self, *given: Any, **named: Any) -> None:
        known = FACTS["classes"][self.of]
        named |= dict(zip(known, given, strict=False))
        unknown = set(named) - set(known)
        if unknown:
            raise TypeError(f"{self.of} got unexpected arguments {sorted(unknown)}")
        for name, default in known.items():
            setattr(self, name, named.get(name, default))
