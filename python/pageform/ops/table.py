"""Names, arities and parameters of the ops a program is made of.

Shapes: T tokens of the step, S sequences, R rows of logits. Activations are float32, row-major. `ints` and `floats` are
positional in the native call, in the order given here. `weight` is a packed matrix [N, K], `vector` a float32 array.

======================== ===========================================================================================
embed                    () -> x[T, K]; weight [vocab, K]; x = weight[token_ids] * scale
rope_angles              () -> cs[T, rot]; vector inv_freq[rot/2]; cs = [cos(pos·f) | sin(pos·f)] * attention_scale
rms_norm                 x[*, g·D] -> y; vector [D]; groups g; y = x / sqrt(mean(x²) + eps) * vector in each group
linear                   x[*, K] -> y[*, N]; weight [N, K]; optional vector bias [N]
rope                     x[T, heads·head_dim], cs[T, rot] -> y; interleaved 0: halves (neox), 1: pairs (gptj)
cache_write              k[T, kv_heads·head_dim], v -> (); writes layer `layer` of the cache at step.slots
attention                q[T, heads·head_dim] -> o; causal over the paged cache, `window` 0 = none, softcap 0 = none
silu_mul                 x[*, 2I] -> y[*, I]; y = silu(x[:, :I]) * x[:, I:]
add                      a, b -> a + b
gather_rows              x[T, H] -> y[R, H]; y = x[step.logits_rows]
moe_gate_up              x[*, H], logits[*, E] -> y[*, k·I]; weight [E·2I, H]: gate and up of each expert; y = silu_mul
                         of each of the top_k = k experts of largest logit
moe_down                 x[*, k·I], logits[*, E] -> y[*, H]; weight [E·H, I]; the sum of the experts' products, weighed
                         by softmax(logits), of the chosen ones alone where renormalize is 1
sample                   logits[R, V] -> (); reads step.sampling, writes step.sampled
lm_head                  x[R, K] -> y[R, N]; linear, but entries that `sample` does not read may be anything; made by
                         lowering only
add_rms_norm             a, b -> s = a + b, y = rms_norm(s); made by lowering only
linear_add               x[*, K], r[*, N] -> r + linear(x); made by lowering only, as the next three
linear_silu_mul          x[*, K] -> y[*, N/2] = silu_mul(linear(x))
rms_norm_linear          x[*, K] -> y[*, N] = linear(rms_norm(x)) without bias; vector [K] and eps are the norm's
rms_norm_linear_silu_mul x[*, K] -> y[*, N/2] = silu_mul(linear(rms_norm(x))), likewise
======================== ===========================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OpSpec:
    """Signature of one op. `weight`/`vector`: "yes", "no" or "optional"."""

    name: str
    inputs: int
    outputs: int
    ints: tuple[str, ...] = ()
    floats: tuple[str, ...] = ()
    weight: str = "no"
    vector: str = "no"


OPS: dict[str, OpSpec] = {
    spec.name: spec
    for spec in (
        OpSpec("embed", 0, 1, floats=("scale",), weight="yes"),
        OpSpec("rope_angles", 0, 1, floats=("attention_scale",), vector="yes"),
        OpSpec("rms_norm", 1, 1, ints=("groups",), floats=("eps",), vector="yes"),
        OpSpec("linear", 1, 1, weight="yes", vector="optional"),
        OpSpec("rope", 2, 1, ints=("heads", "head_dim", "rot_dim", "interleaved")),
        OpSpec("cache_write", 2, 0, ints=("layer", "kv_heads", "head_dim")),
        OpSpec(
            "attention",
            1,
            1,
            ints=("layer", "heads", "kv_heads", "head_dim", "window"),
            floats=("scale", "softcap"),
        ),
        OpSpec("silu_mul", 1, 1),
        OpSpec("add", 2, 1),
        OpSpec("gather_rows", 1, 1),
        OpSpec("moe_gate_up", 2, 1, ints=("top_k",), weight="yes"),
        OpSpec("moe_down", 2, 1, ints=("top_k", "renormalize"), weight="yes"),
        OpSpec("sample", 1, 0),
        OpSpec("lm_head", 1, 1, weight="yes", vector="optional"),
        OpSpec("linear_add", 2, 1, weight="yes", vector="optional"),
        OpSpec("linear_silu_mul", 1, 1, weight="yes", vector="optional"),
        OpSpec("rms_norm_linear", 1, 1, floats=("eps",), weight="yes", vector="yes"),
        OpSpec("rms_norm_linear_silu_mul", 1, 1, floats=("eps",), weight="yes", vector="yes"),
        OpSpec("add_rms_norm", 2, 2, ints=("groups",), floats=("eps",), vector="yes"),
    )
}
