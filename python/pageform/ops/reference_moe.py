"""What the ops of a mixture of experts mean, in torch (contract: csrc/ops/moe/moe.h).

No program records them yet: so far they exist on GPUs only. Clarity decides here, not speed.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def moe_route(
    logits: Tensor,
    top_k: int,
    scoring: Literal["softmax", "sigmoid"] = "softmax",
    bias: Tensor | None = None,
    renormalize: bool = True,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """The experts of each token and their weights: logits [T, E] -> ids [T, k], weights [T, k].

    Softmax scores are Mixtral's (A. Q. Jiang et al., 2024), sigmoid ones with a bias that only chooses DeepSeek-V3's
    (2024), without its groups of experts.
    """
    scores = logits.float().softmax(dim=-1) if scoring == "softmax" else logits.float().sigmoid()
    keys = logits.float() if bias is None else scores + bias
    # A stable sort leaves the lower id first where keys are equal, and puts NaN before everything.
    ids = keys.sort(dim=-1, descending=True, stable=True).indices[:, :top_k]
    weights = scores.gather(1, ids)
    if renormalize:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return ids, weights * scale


def moe(x: Tensor, ids: Tensor, weights: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The weighted sum of the chosen experts: x [T, H], gate_up [E, 2I, H], down [E, H, I] -> y [T, H].

    Rows of gate_up are gate 0, up 0, gate 1, …; an id outside 0 … E - 1 adds nothing.
    """
    y = torch.zeros_like(x)
    for token in range(len(x)):
        for expert, weight in zip(ids[token].tolist(), weights[token], strict=True):
            if not 0 <= expert < len(down):
                continue
            gate, up = (gate_up[expert] @ x[token]).view(-1, 2).unbind(dim=-1)
            y[token] += weight * (down[expert] @ (torch.nn.functional.silu(gate) * up))
    return y
