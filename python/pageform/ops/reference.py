"""What each op means, in torch: the oracle of all tests and the program of the reference backend.

Every function takes `(call, step, *inputs)` and returns a tuple of outputs; shapes, parameters and formulas are in
`table.py`. Clarity decides here, not speed. Activations are float32; `cache_write` and `sample` write into `step`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .reference_moe import moe_down, moe_gate_up
from .reference_sample import only_allowed, sample
from .reference_types import ReferenceCall, ReferenceStep

Reference = Callable[..., tuple[Tensor, ...]]


def embed(call: ReferenceCall, step: ReferenceStep) -> tuple[Tensor]:
    """Rows of the embedding matrix, times `scale`."""
    return (_matrix(call)[step.token_ids] * call.floats["scale"],)


def linear(call: ReferenceCall, step: ReferenceStep, x: Tensor) -> tuple[Tensor]:
    """x @ weightᵀ + bias."""
    y = x @ _matrix(call).T
    return (y if call.vector is None else y + call.vector,)


def lm_head(call: ReferenceCall, step: ReferenceStep, x: Tensor) -> tuple[Tensor]:
    """`linear`, with NaN wherever `sample` does not read the logit."""
    (y,) = linear(call, step, x)
    for row in range(len(y)):
        allowed = only_allowed(step, row)
        if allowed is not None:
            read = torch.zeros(y.shape[1], dtype=torch.bool, device=y.device)
            read[: len(allowed)] = torch.from_numpy(allowed).to(y.device)
            y[row, ~read] = torch.nan
    return (y,)


def rms_norm(call: ReferenceCall, step: ReferenceStep, x: Tensor) -> tuple[Tensor]:
    """Root mean square normalisation of each group (B. Zhang and R. Sennrich, 2019)."""
    groups = x.view(x.shape[0], call.ints["groups"], len(_vector(call)))
    return (_normalized(call, groups).reshape(x.shape),)


def add(call: ReferenceCall, step: ReferenceStep, a: Tensor, b: Tensor) -> tuple[Tensor]:
    """a + b."""
    return (a + b,)


def add_rms_norm(call: ReferenceCall, step: ReferenceStep, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The sum and its norm."""
    total = a + b
    return total, rms_norm(call, step, total)[0]


def silu_mul(call: ReferenceCall, step: ReferenceStep, x: Tensor) -> tuple[Tensor]:
    """SwiGLU's product (N. Shazeer, 2020): silu of the left half times the right half."""
    gate, up = x.chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up,)


def gather_rows(call: ReferenceCall, step: ReferenceStep, x: Tensor) -> tuple[Tensor]:
    """The hidden states that become rows of logits."""
    return (x[step.logits_rows],)


def linear_add(call: ReferenceCall, step: ReferenceStep, x: Tensor, residual: Tensor) -> tuple[Tensor]:
    """`linear` and the residual."""
    return (residual + linear(call, step, x)[0],)


def linear_silu_mul(call: ReferenceCall, step: ReferenceStep, x: Tensor) -> tuple[Tensor]:
    """`silu_mul` of `linear`."""
    return silu_mul(call, step, linear(call, step, x)[0])


def rms_norm_linear(call: ReferenceCall, step: ReferenceStep, x: Tensor) -> tuple[Tensor]:
    """The product of the normalised rows."""
    return (_normalized(call, x) @ _matrix(call).T,)


def rms_norm_linear_silu_mul(call: ReferenceCall, step: ReferenceStep, x: Tensor) -> tuple[Tensor]:
    """`silu_mul` of the product of the normalised rows."""
    return silu_mul(call, step, rms_norm_linear(call, step, x)[0])


def rope_angles(call: ReferenceCall, step: ReferenceStep) -> tuple[Tensor]:
    """Cosines, then sines, of position times frequency. In double: a float product is off by 0.005 at 100,000."""
    angles = step.positions.double()[:, None] * _vector(call).double()[None, :]
    return ((torch.cat([angles.cos(), angles.sin()], dim=-1) * call.floats["attention_scale"]).float(),)


def rope(call: ReferenceCall, step: ReferenceStep, x: Tensor, cs: Tensor) -> tuple[Tensor]:
    """Rotary position embedding (J. Su et al., 2021) of the first `rot_dim` channels of each head."""
    heads, head_dim, rot = call.ints["heads"], call.ints["head_dim"], call.ints["rot_dim"]
    y = x.reshape(x.shape[0], heads, head_dim).clone()
    cos, sin = (part[:, None, :] for part in cs.chunk(2, dim=-1))
    if call.ints["interleaved"]:
        first, second = slice(0, rot, 2), slice(1, rot, 2)
    else:
        first, second = slice(0, rot // 2), slice(rot // 2, rot)
    a, b = y[..., first].clone(), y[..., second].clone()
    y[..., first] = a * cos - b * sin
    y[..., second] = b * cos + a * sin
    return (y.reshape(x.shape),)


def cache_write(call: ReferenceCall, step: ReferenceStep, k: Tensor, v: Tensor) -> tuple[()]:
    """Stores row t of k and v, rounded to the cache's dtype, at slot t."""
    groups, bits = (32, call.ints["head_dim"]), (13, 12)
    for cache, rows, group, largest in zip(step.kv[call.ints["layer"]], (k, v), groups, bits, strict=True):
        block, offset = step.slots // cache.shape[1], step.slots % cache.shape[1]
        heads = rows.reshape(-1, call.ints["kv_heads"], call.ints["head_dim"])
        if step.kv_dtype in ("i8", "i16"):
            parts = [heads[..., first : first + group] for first in range(0, heads.shape[-1], group)]
            cache[block, offset] = torch.cat(
                [_as_int8(part) if step.kv_dtype == "i8" else _as_int16(part, largest) for part in parts], dim=-1
            )
        else:
            cache[block, offset] = heads.to(cache.dtype)
    return ()


def _as_int8(group: Tensor) -> Tensor:
    """What is left of [..., channels] as int8 codes with one scale, the largest being 127."""
    scale = group.abs().amax(dim=-1, keepdim=True) / 127
    return torch.where(scale >= torch.finfo(torch.float32).tiny, torch.round(group / scale), 0.0) * scale


def _as_int16(group: Tensor, bits: int) -> Tensor:
    """What is left of [..., channels] as int16 codes with a power of two as scale, the largest at most 2^bits."""
    largest = group.abs().amax(dim=-1, keepdim=True)
    exponent = torch.frexp(torch.where(torch.isfinite(largest), largest, 1.0)).exponent - bits
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    rounded = torch.where(exponent >= -126, torch.round(group / scale), 0.0) * scale
    return torch.where(torch.isfinite(largest), rounded, torch.nan)


def attention(call: ReferenceCall, step: ReferenceStep, q: Tensor) -> tuple[Tensor]:
    """Causal attention of each sequence's queries over its cached context; see csrc/ops/attention/attention.h."""
    heads, kv_heads, head_dim = call.ints["heads"], call.ints["kv_heads"], call.ints["head_dim"]
    window, softcap = call.ints["window"], call.floats["softcap"]
    keys, values = step.kv[call.ints["layer"]]
    block_size = keys.shape[1]
    queries = q.reshape(-1, heads, head_dim)
    out = torch.empty_like(queries)
    for s, length in enumerate(step.seq_lens.tolist()):
        begin, end = int(step.query_start[s]), int(step.query_start[s + 1])
        positions = torch.arange(length, device=q.device)
        # Blocks that have slid out of every query's window may have been given back: they are not read.
        visible = positions >= (length - (end - begin) + 1 - window if window else 0)
        seen = positions[visible]
        blocks, offsets = step.block_tables[s][seen // block_size], seen % block_size
        k = keys[blocks, offsets].float().repeat_interleave(heads // kv_heads, dim=1)
        v = values[blocks, offsets].float().repeat_interleave(heads // kv_heads, dim=1)
        scores = torch.einsum("qhd,khd->hqk", queries[begin:end], k) * call.floats["scale"]
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        own = torch.arange(length - (end - begin), length, device=q.device)[:, None]
        hidden = seen[None, :] > own
        if window:
            hidden |= seen[None, :] <= own - window
        weights = torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1)
        out[begin:end] = torch.einsum("hqk,khd->qhd", weights, v)
    return (out.reshape(q.shape),)


def _normalized(call: ReferenceCall, x: Tensor) -> Tensor:
    scale = torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + call.floats["eps"])
    return x * scale * _vector(call)


def _matrix(call: ReferenceCall) -> Tensor:
    if call.weight is None:
        raise ValueError(f"op {call.name!r} needs a weight")
    return call.weight


def _vector(call: ReferenceCall) -> Tensor:
    if call.vector is None:
        raise ValueError(f"op {call.name!r} needs a vector")
    return call.vector


REFERENCE: dict[str, Reference] = {
    function.__name__: function
    for function in (
        embed,
        rope_angles,
        rms_norm,
        linear,
        rope,
        cache_write,
        attention,
        silu_mul,
        add,
        gather_rows,
        moe_gate_up,
        moe_down,
        sample,
        lm_head,
        add_rms_norm,
        linear_add,
        linear_silu_mul,
        rms_norm_linear,
        rms_norm_linear_silu_mul,
    )
}
"""The reference of every op of `table.OPS`, by name."""
