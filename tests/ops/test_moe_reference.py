"""The torch reference of a mixture of experts against transformers' Mixtral and DeepSeek-V3."""

from __future__ import annotations

import pytest
import torch

from pageform.ops.reference_moe import moe, moe_route

TOKENS, EXPERTS, TOP_K, HIDDEN, INNER = 7, 6, 2, 16, 12


def test_mixtral_gives_the_same() -> None:
    from transformers.models.mixtral.modeling_mixtral import MixtralConfig, MixtralSparseMoeBlock

    torch.manual_seed(1)
    config = MixtralConfig(
        hidden_size=HIDDEN, intermediate_size=INNER, num_local_experts=EXPERTS, num_experts_per_tok=TOP_K
    )
    block = MixtralSparseMoeBlock(config).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(TOKENS, HIDDEN)
    with torch.no_grad():
        expected = block(x[None])[0]
        ids, weights = moe_route(x @ block.gate.weight.T, TOP_K)
        # Gate and up lie one after the other there, interleaved here.
        gate_up = (
            block.experts.gate_up_proj.view(EXPERTS, 2, INNER, HIDDEN).transpose(1, 2).reshape(EXPERTS, -1, HIDDEN)
        )
        got = moe(x, ids, weights, gate_up, block.experts.down_proj)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("renormalize", [False, True])
def test_a_bias_chooses_and_weighs_nothing(renormalize: bool) -> None:
    torch.manual_seed(2)
    logits, bias = torch.randn(TOKENS, EXPERTS), torch.randn(EXPERTS)
    ids, weights = moe_route(logits, TOP_K, "sigmoid", bias, renormalize, scale=2.5)
    scores = logits.sigmoid()
    expected_ids = torch.topk(scores + bias, TOP_K, dim=-1).indices
    expected = scores.gather(1, expected_ids)
    if renormalize:
        expected /= expected.sum(dim=-1, keepdim=True)
    assert torch.equal(ids, expected_ids)
    torch.testing.assert_close(weights, expected * 2.5)


def test_equal_logits_choose_the_lower_id_and_nan_shows() -> None:
    ids, weights = moe_route(torch.tensor([[1.0, 2.0, 2.0, 0.0], [1.0, float("nan"), 2.0, 0.0]]), 2)
    assert ids.tolist() == [[1, 2], [1, 2]]
    assert weights[0].tolist() == [0.5, 0.5]
    assert weights[1].isnan().all()


def test_experts_of_other_devices_add_nothing() -> None:
    torch.manual_seed(3)
    x, gate_up, down = torch.randn(2, HIDDEN), torch.randn(3, 2 * INNER, HIDDEN), torch.randn(3, HIDDEN, INNER)
    y = moe(x, torch.tensor([[1, -1], [3, 7]]), torch.ones(2, 2), gate_up, down)
    torch.testing.assert_close(y[0], moe(x[:1], torch.tensor([[1]]), torch.ones(1, 1), gate_up, down)[0])
    assert not y[1].any()
