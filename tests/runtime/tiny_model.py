"""A two-layer model of the Llama kind with random weights, recorded as a real one would be."""

from __future__ import annotations

import numpy as np
from harness import F32, ProgramPair, Sequences, make_device

from pageform import _native
from pageform.ops.sampling import SamplingInputs
from pageform.runtime.program import InlineVector, Program, Recorder, VectorRequest, WeightRequest
from pageform.runtime.reference import KvShape

VOCAB, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE = 96, 64, 4, 2, 16, 128


def record(layers: int = 2, *, sample: bool = True) -> Program:
    """Outputs: `hidden` after the last layer [T, HIDDEN], `logits` [R, VOCAB]."""
    r = Recorder()
    x = r.embed("embed", HIDDEN)
    cs = r.rope_angles([10000.0 ** (-2 * i / HEAD_DIM) for i in range(HEAD_DIM // 2)])
    for layer in range(layers):
        p = f"layers.{layer}."
        normed = r.rms_norm(x, p + "attn_norm", 1e-5)
        joint = r.linear(normed, [p + "q", p + "k", p + "v"], (HEADS + 2 * KV_HEADS) * HEAD_DIM)
        q, k, v = joint.split([HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM])
        q = r.rope(q, cs, HEADS, HEAD_DIM, HEAD_DIM)
        k = r.rope(k, cs, KV_HEADS, HEAD_DIM, HEAD_DIM)
        r.cache_write(k, v, layer, KV_HEADS, HEAD_DIM)
        attended = r.attention(q, layer, HEADS, KV_HEADS, HEAD_DIM, HEAD_DIM**-0.5)
        x = r.add(x, r.linear(attended, p + "o", HIDDEN))
        normed = r.rms_norm(x, p + "mlp_norm", 1e-5)
        gated = r.silu_mul(r.linear(normed, [p + "gate", p + "up"], 2 * INTERMEDIATE))
        x = r.add(x, r.linear(gated, p + "down", HIDDEN))
    r.output("hidden", x)
    logits = r.linear(r.rms_norm(r.gather_rows(x), "norm", 1e-5), "embed", VOCAB)
    r.output("logits", logits)
    if sample:
        r.sample(logits)
    return r.program


def _shape(request: WeightRequest) -> tuple[int, int]:
    last = request[0].rsplit(".", 1)[-1]
    return {
        "embed": (VOCAB, HIDDEN),
        "q": ((HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN),
        "o": (HIDDEN, HEADS * HEAD_DIM),
        "gate": (2 * INTERMEDIATE, HIDDEN),
        "down": (HIDDEN, INTERMEDIATE),
    }[last]


def draw_weights(program: Program, seed: int = 0) -> list[F32]:
    """Random matrices for the program's weight requests."""
    random = np.random.default_rng(seed)
    shapes = [_shape(request) for request in program.weights]
    return [(random.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32) for shape in shapes]


def draw_vectors(program: Program, seed: int = 1) -> list[F32]:
    """Norm weights around 1, and the inline vectors as they are."""
    random = np.random.default_rng(seed)

    def vector(request: VectorRequest) -> F32:
        if isinstance(request, InlineVector):
            return np.asarray(request.values, np.float32)
        return (1 + 0.1 * random.standard_normal(HIDDEN)).astype(np.float32)

    return [vector(request) for request in program.vectors]


def tiny_pair(
    layers: int = 2,
    *,
    num_blocks: int = 16,
    block_size: int = 16,
    kv_dtype: str = "f32",
    device: _native.Device | None = None,
    lower: bool = True,
) -> ProgramPair:
    """The tiny model on a native device and on the reference."""
    program = record(layers)
    return ProgramPair(
        program,
        draw_weights(program),
        draw_vectors(program),
        KvShape(layers, KV_HEADS, HEAD_DIM, block_size, num_blocks, kv_dtype),
        device=device or make_device(),
        lower=lower,
    )


def sequences(cached: list[int], new: list[int], **changes: object) -> Sequences:
    """Sequences over the tiny model's vocabulary and a cache of 16 blocks."""
    return Sequences(cached, new, vocab=VOCAB, num_blocks=16, **changes)  # type: ignore[arg-type]


def greedy(rows: int, **changes: object) -> SamplingInputs:
    """Greedy rows over the tiny model's vocabulary."""
    return SamplingInputs.greedy(rows, **changes)
