"""The named shapes: those of models that are served on one GPU, and small ones with ragged edges for the emulator."""

from __future__ import annotations

from collections.abc import Iterator

from .attention import Heads, decode, prefill
from .cache import copy_blocks, extend_tables, fork, mrope_angles, rope_angles, rope_cache, transfer
from .case import Case
from .matrices import linear, linear_8bit, lora, moe, moe_route
from .ranks import all_reduce
from .rows import (
    add,
    embed,
    embed_packed,
    gather_rows,
    gelu,
    layer_norm,
    norm_quantize,
    quantize_rows,
    rms_norm,
    silu_mul,
)
from .sampling import sample

LLAMA_8B = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}
"""Llama 3.1 8B: [n, k] of its matrices; 32 heads, 8 KV heads, 128 channels, 128,256 tokens."""
HEADS_8B = Heads(32, 8, 128)
HIDDEN, INNER, VOCAB = 4096, 14336, 128256


def named() -> list[Case]:
    """What a first run on hardware is compared with."""
    return [*_rows(), *_attention(), *_matrices(), *_mixtures(), *_other_types()]


def _rows() -> Iterator[Case]:
    for rows in (64, 8192):
        at = f"8B, {rows} tokens"
        yield embed(at, tokens=rows, vocab=VOCAB, cols=HIDDEN)
        yield rms_norm(at, rows=rows, width=HIDDEN)
        yield norm_quantize(at, rows=rows, width=HIDDEN, to="e4m3")
        yield silu_mul(at, rows=rows, cols=INNER)
        yield rope_cache(at, tokens=rows, heads=HEADS_8B)
    yield embed_packed("8B, 64 tokens", tokens=64, vocab=VOCAB, cols=HIDDEN, weights="int8")
    yield gather_rows("8B, 64 of 8192 tokens", count=64, rows=8192, cols=HIDDEN)
    yield add("8B, 8192 tokens", rows=8192, cols=HIDDEN)
    yield norm_quantize("8B, 8192 tokens", rows=8192, width=HIDDEN, to="int8")
    yield quantize_rows("8B, 8192 tokens", rows=8192, cols=HIDDEN)
    yield layer_norm("ViT-L, 4096 patches", rows=4096, width=1024)
    yield gelu("ViT-L, 4096 patches", rows=4096, cols=4096)
    yield rope_angles("8B, 8192 tokens", tokens=8192, half=64)
    yield mrope_angles("Qwen2-VL 7B, 8192 tokens", tokens=8192, half=64)
    yield extend_tables("256 x 4096 tokens", seqs=256, length=4096, num_blocks=100_000)
    yield copy_blocks("8B, 1024 blocks", count=1024, heads=HEADS_8B)
    yield fork("8B, 256 x 4090 tokens", seqs=256, length=4090, heads=HEADS_8B)
    for gather in (True, False):
        yield transfer("8B, 64 blocks of 32 layers", count=64, num_layers=32, heads=HEADS_8B, gather=gather)
    for two_shots in (False, True):
        yield all_reduce("8 ranks x 64 tokens of 8B", ranks=8, n=64 * HIDDEN, two_shots=two_shots)
    yield sample("8B, 64 rows", rows=64, vocab=VOCAB)


def _attention() -> Iterator[Case]:
    for cache in ("bf16", "e4m3", "int8"):
        yield decode("8B, 64 x 4096", lens=[4096] * 64, heads=HEADS_8B, cache=cache)
    yield decode("8B, 1 x 32768", lens=[32768], heads=HEADS_8B)
    yield decode("70B, 32 x 8192", lens=[8192] * 32, heads=Heads(64, 8, 128))
    for cache in ("bf16", "e4m3", "int8"):
        yield prefill("8B, 1 x 8192", counts=[8192], lens=[8192], heads=HEADS_8B, cache=cache)
    yield prefill("8B, 16 x 512", counts=[512] * 16, lens=[512] * 16, heads=HEADS_8B)
    yield prefill("8B, 2048 after 14336", counts=[2048], lens=[16384], heads=HEADS_8B)


def _matrices() -> Iterator[Case]:
    for rows in (1, 16, 64, 4096):
        for name, (n, k) in LLAMA_8B.items():
            yield linear(f"8B {name}, {rows} rows", rows=rows, n=n, k=k)
    yield linear("8B lm_head, 64 rows", rows=64, n=VOCAB, k=HIDDEN)
    n, k = LLAMA_8B["gate_up"]
    for weights in ("int4", "int8", "e4m3"):
        for rows in (1, 64, 4096):
            yield linear(f"8B gate_up, {rows} rows", rows=rows, n=n, k=k, weights=weights)
    for type in ("e4m3", "int8"):
        for rows in (64, 4096):
            yield linear_8bit(f"8B gate_up, {rows} rows", rows=rows, n=n, k=k, type=type)
    yield lora("8B o, 64 rows, 16 adapters", rows=64, adapters=16, rank=16, n=HIDDEN, k=HIDDEN)


def _mixtures() -> Iterator[Case]:
    """Mixtral 8x7B, and the many small experts of Qwen3 30B-A3B."""
    yield moe_route("128 experts, 4096 tokens", tokens=4096, experts=128, top_k=8)
    for tokens in (1, 64, 4096):
        yield moe(f"8x7B, {tokens} tokens", tokens=tokens, experts=8, top_k=2, hidden=4096, inner=14336)
        yield moe(f"30B-A3B, {tokens} tokens", tokens=tokens, experts=128, top_k=8, hidden=2048, inner=768)
    yield moe("8x7B, 64 tokens", tokens=64, experts=8, top_k=2, hidden=4096, inner=14336, weights="int4")


def _other_types() -> Iterator[Case]:
    """Activations of f16 and, as the comparison with the CPU has them, of f32."""
    n, k = LLAMA_8B["gate_up"]
    for type in ("f16", "f32"):
        at = "8B, 8192 tokens"
        yield embed(at, tokens=8192, vocab=VOCAB, cols=HIDDEN, type=type)
        yield add(at, rows=8192, cols=HIDDEN, type=type)
        yield rms_norm(at, rows=8192, width=HIDDEN, type=type)
        yield silu_mul(at, rows=8192, cols=INNER, type=type)
        yield rope_cache(at, tokens=8192, heads=HEADS_8B, type=type)
        yield gather_rows("8B, 64 of 8192 tokens", count=64, rows=8192, cols=HIDDEN, type=type)
        yield layer_norm("ViT-L, 4096 patches", rows=4096, width=1024, type=type)
        yield gelu("ViT-L, 4096 patches", rows=4096, cols=4096, type=type)
        yield decode("8B, 64 x 4096", lens=[4096] * 64, heads=HEADS_8B, cache=type, type=type)
        for rows in (1, 64, 4096):
            yield linear(f"8B gate_up, {rows} rows", rows=rows, n=n, k=k, type=type)
        yield linear("8B gate_up, 64 rows", rows=64, n=n, k=k, weights="int4", type=type)
        yield lora("8B o, 64 rows, 16 adapters", rows=64, adapters=16, rank=16, n=HIDDEN, k=HIDDEN, type=type)
        yield moe_route("128 experts, 4096 tokens", tokens=4096, experts=128, top_k=8, type=type)
        yield moe("8x7B, 64 tokens", tokens=64, experts=8, top_k=2, hidden=4096, inner=14336, type=type)
        for two_shots in (False, True):
            n_all = 64 * HIDDEN
            yield all_reduce("8 ranks x 64 tokens of 8B", ranks=8, n=n_all, two_shots=two_shots, type=type)
    yield norm_quantize("8B, 8192 tokens", rows=8192, width=HIDDEN, to="e4m3", type="f16")
    yield quantize_rows("8B, 8192 tokens", rows=8192, cols=HIDDEN, type="f16")
    yield prefill("8B, 1 x 8192", counts=[8192], lens=[8192], heads=HEADS_8B, cache="f16", type="f16")
    for cache in ("f16", "int8"):
        yield decode("8B, 64 x 4096", lens=[4096] * 64, heads=HEADS_8B, cache=cache, type="f32")


def small() -> list[Case]:
    """Every kernel of `named`, in seconds on the emulator: several blocks, pages and head groups, and ragged tails."""
    heads = Heads(4, 2, 64)
    cases = [
        embed("5 x 136", tokens=5, vocab=50, cols=136),
        embed_packed("5 x 192", tokens=5, vocab=50, cols=192, weights="int8"),
        gather_rows("7 of 20 x 136", count=7, rows=20, cols=136),
        add("5 x 133", rows=5, cols=133),
        silu_mul("5 x 136", rows=5, cols=136),
        gelu("5 x 133", rows=5, cols=133),
        rms_norm("5 x 576", rows=5, width=576),
        layer_norm("5 x 577", rows=5, width=577),
        norm_quantize("5 x 576", rows=5, width=576, to="e4m3"),
        norm_quantize("5 x 576", rows=5, width=576, to="int8"),
        quantize_rows("5 x 136", rows=5, cols=136),
        rope_cache("19 tokens", tokens=19, heads=heads),
        rope_angles("19 tokens", tokens=19, half=20),
        mrope_angles("19 tokens", tokens=19, half=16),
        extend_tables("37 x 40 tokens", seqs=37, length=40, num_blocks=300),
        copy_blocks("5 blocks", count=5, heads=heads),
        fork("9 x 37 tokens", seqs=9, length=37, heads=heads),
        *[
            transfer("3 blocks of 2 layers", count=3, num_layers=2, heads=heads, gather=gather)
            for gather in (True, False)
        ],
        sample("4 x 1000", rows=4, vocab=1000),
        prefill("13 of 40, 50 of 50", counts=[13, 50], lens=[40, 50], heads=heads),
        prefill("20 of 37", counts=[20], lens=[37], heads=heads, cache="e4m3"),
        prefill("20 of 37", counts=[20], lens=[37], heads=heads, cache="int8"),
        prefill("20 of 37", counts=[20], lens=[37], heads=heads, cache="f16", type="f16"),
        norm_quantize("5 x 576", rows=5, width=576, to="e4m3", type="f16"),
        quantize_rows("5 x 136", rows=5, cols=136, type="f16"),
        lora("7 rows, 3 adapters", rows=7, adapters=3, rank=8, n=96, k=72),
        moe_route("9 tokens, 16 experts", tokens=9, experts=16, top_k=4),
        moe("9 tokens, 4 experts", tokens=9, experts=4, top_k=2, hidden=128, inner=64),
        moe("9 tokens, 4 experts", tokens=9, experts=4, top_k=2, hidden=128, inner=64, weights="int4"),
        linear("70 x 136 x 200", rows=70, n=136, k=200),
    ]
    cases += [decode("530, 40, 1", lens=[530, 40, 1], heads=heads, cache=cache) for cache in ("bf16", "e4m3", "int8")]
    cases += [linear("17 x 72 x 192", rows=17, n=72, k=192, weights=weights) for weights in ("int4", "int8", "e4m3")]
    for type in ("bf16", "f16", "f32"):
        cases += [all_reduce("3 ranks x 136", ranks=3, n=136, two_shots=two, type=type) for two in (False, True)]
    for type in ("f16", "f32"):
        cases += [
            embed("5 x 136", tokens=5, vocab=50, cols=136, type=type),
            gather_rows("7 of 20 x 136", count=7, rows=20, cols=136, type=type),
            add("5 x 133", rows=5, cols=133, type=type),
            silu_mul("5 x 136", rows=5, cols=136, type=type),
            gelu("5 x 133", rows=5, cols=133, type=type),
            rms_norm("5 x 576", rows=5, width=576, type=type),
            layer_norm("5 x 577", rows=5, width=577, type=type),
            rope_cache("19 tokens", tokens=19, heads=heads, type=type),
            decode("530, 40, 1", lens=[530, 40, 1], heads=heads, cache=type, type=type),
            linear("70 x 136 x 200", rows=70, n=136, k=200, type=type),
            linear("17 x 72 x 192", rows=17, n=72, k=192, weights="int4", type=type),
            lora("7 rows, 3 adapters", rows=7, adapters=3, rank=8, n=96, k=72, type=type),
            moe_route("9 tokens, 16 experts", tokens=9, experts=16, top_k=4, type=type),
            moe("9 tokens, 4 experts", tokens=9, experts=4, top_k=2, hidden=128, inner=64, type=type),
        ]
    cases += [decode("40, 1", lens=[40, 1], heads=heads, cache=cache, type="f32") for cache in ("f16", "int8")]
    cases += [linear_8bit("17 x 72 x 192", rows=17, n=72, k=192, type=type) for type in ("e4m3", "int8")]
    return cases
