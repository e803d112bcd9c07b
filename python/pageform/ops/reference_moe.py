"""What the ops of a mixture of experts mean, in torch (contract: csrc/ops/moe/moe.h).

Clarity decides here, not speed.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .reference_types import ReferenceCall, ReferenceStep


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


def moe_gate_up(call: ReferenceCall, step: ReferenceStep, x: Tensor, logits: Tensor) -> tuple[Tensor]:
    """silu(gate x) · (up x) of each chosen expert: [T, k·I]."""
    experts = _experts(call, logits)
    ids, _ = moe_route(logits, call.ints["top_k"])
    gate, up = torch.einsum("tkih,th->tki", experts[ids], x).chunk(2, dim=-1)
    return ((torch.nn.functional.silu(gate) * up).flatten(1),)


def moe_down(call: ReferenceCall, step: ReferenceStep, x: Tensor, logits: Tensor) -> tuple[Tensor]:
    """The weighted sum of what the chosen experts make of [T, k·I]."""
    experts = _experts(call, logits)
    ids, weights = moe_route(logits, call.ints["top_k"], renormalize=bool(call.ints["renormalize"]))
    products = torch.einsum("tkhi,tki->tkh", experts[ids], x.reshape(len(x), ids.shape[1], -1))
    return ((weights[..., None] * products).sum(dim=1),)


def _experts(call: ReferenceCall, logits: Tensor) -> Tensor:
    """The weight as [E, rows of one expert, K]."""
    assert call.weight is not None
    return call.weight.view(logits.shape[1], -1, call.weight.shape[1])
