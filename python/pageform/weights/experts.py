"""What the tensors of a mixture of experts are called in Hugging Face checkpoints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """Names below a layer's: `block` has the router and the experts, whose projections have a name each."""

    block: str
    gate: str
    up: str
    down: str

    def router(self, layer: int) -> str:
        """The matrix [experts, hidden]."""
        return f"model.layers.{layer}.{self.block}.gate.weight"

    def projection(self, layer: int, expert: int, part: str) -> str:
        """The matrix of one expert; `part` is "gate", "up" or "down"."""
        name = {"gate": self.gate, "up": self.up, "down": self.down}[part]
        return f"model.layers.{layer}.{self.block}.experts.{expert}.{name}.weight"


EXPERT_NAMES = {
    "mixtral": ExpertNames("block_sparse_moe", "w1", "w3", "w2"),
    "qwen3_moe": ExpertNames("mlp", "gate_proj", "up_proj", "down_proj"),
}
"""By `ModelConfig.architecture`."""
