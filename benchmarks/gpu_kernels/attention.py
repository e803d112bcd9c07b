"""Kernels of attention over the paged cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .case import BYTES, TYPES, Case, Setup, Trial, of_type
from .library import Struct, cache_struct
from .rows import flashinfer

BLOCK = 16
WORKSPACE = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Heads:
    query: int
    kv: int
    dim: int


@dataclass(slots=True)
class _Paged:
    """A cache whose blocks lie anywhere, and what the values in it are."""

    type: str
    k: Any  # [blocks, kv heads, BLOCK, dim], as the kernel reads it
    v: Any
    scales: tuple[Any, Any] | None
    tables: Any  # [sequences, most blocks]
    lens: Sequence[int]

    @property
    def struct(self) -> Struct:
        return cache_struct(self.k, self.v, self.scales)

    def of(self, sequence: int) -> tuple[Any, Any]:
        """Keys and values [kv heads, length, dim] of a sequence, in float."""
        blocks = self.tables[sequence, : -(-self.lens[sequence] // BLOCK)].long()
        found = []
        for i, part in enumerate((self.k, self.v)):
            values = part[blocks].float()
            if self.scales:
                values *= self.scales[i][blocks][..., None]
            flat = values.transpose(0, 1).reshape(part.shape[1], -1, part.shape[3])
            found.append(flat[:, : self.lens[sequence]])
        return found[0], found[1]


def _paged(s: Setup, type: str, lens: Sequence[int], heads: Heads) -> _Paged:
    torch = s.torch
    most = -(-max(lens) // BLOCK)
    blocks = most * len(lens)
    shape = (blocks, heads.kv, BLOCK, heads.dim)
    scales = None
    if type == "int8":
        k, v = (s.whole(-127, 128, *shape, dtype="int8") for _ in range(2))
        scales = tuple(s.normal(*shape[:3], dtype="float32").abs() / 64 for _ in range(2))
    else:
        dtype = torch.float8_e4m3fn if type == "e4m3" else getattr(torch, TYPES[type])
        k, v = (s.normal(*shape).to(dtype) for _ in range(2))
    return _Paged(type, k, v, scales, s.shuffled(blocks).reshape(len(lens), most), lens)


def _reference(s: Setup, q: Any, cache: _Paged, counts: Sequence[int], heads: Heads) -> Any:
    """Causal attention in float; a sequence's queries are the last of its tokens."""
    torch, group, start, parts = s.torch, heads.query // heads.kv, 0, []
    for i, count in enumerate(counts):
        keys, values = cache.of(i)
        own = q[start : start + count].float().reshape(count, heads.query, heads.dim)
        last = torch.arange(cache.lens[i] - count, cache.lens[i], device=q.device)
        hidden = torch.arange(cache.lens[i], device=q.device)[None, :] > last[:, None]
        outs = []
        for h in range(heads.query):  # one by one: all scores of a long prompt would take gigabytes
            scores = own[:, h] @ keys[h // group].T * heads.dim**-0.5
            outs.append(scores.masked_fill(hidden, float("-inf")).softmax(-1) @ values[h // group])
        parts.append(torch.stack(outs, 1).reshape(count, -1))
        start += count
    return torch.cat(parts)


def _tables_of_flashinfer(s: Setup, cache: _Paged) -> tuple[Any, Any, Any]:
    """Where each sequence's pages begin in one list, the list, and tokens in each last page."""
    pages = [-(-length // BLOCK) for length in cache.lens]
    starts = [sum(pages[:i]) for i in range(len(pages) + 1)]
    listed = s.torch.cat([cache.tables[i, :count] for i, count in enumerate(pages)])
    return s.numbers(starts), listed, s.numbers([(length - 1) % BLOCK + 1 for length in cache.lens])


def decode(shape: str, *, lens: Sequence[int], heads: Heads, cache: str = "bf16", type: str = "bf16") -> Case:
    """One query token a sequence."""
    seqs, width = len(lens), heads.query * heads.dim

    def prepare(s: Setup) -> Trial:
        torch = s.torch
        paged, q, out = _paged(s, cache, lens, heads), s.normal(seqs, width), s.output(seqs, width)
        floats = s.kernels.ask("pf_attention_partials", seqs, heads.query, heads.dim, max(lens))
        partials = s.output(max(1, floats), dtype="float32")
        tables = (s.numbers(list(range(seqs + 1))), s.numbers(list(lens)), paged.tables)
        arguments = (cache, q, out, paged.struct, *tables, partials, seqs, seqs, heads.query)
        prepared: list[Any] = []

        def peer() -> object:
            if not prepared:
                wrapper = flashinfer().BatchDecodeWithPagedKVCacheWrapper(
                    torch.empty(WORKSPACE, dtype=torch.uint8, device=q.device), "HND"
                )
                wrapper.plan(
                    *_tables_of_flashinfer(s, paged),
                    heads.query,
                    heads.kv,
                    heads.dim,
                    BLOCK,
                    q_data_type=q.dtype,
                    kv_data_type=paged.k.dtype,
                )
                prepared.append(wrapper)
            return prepared[0].run(q.view(seqs, heads.query, heads.dim), (paged.k, paged.v))

        launch = partial(s.kernels.launch, "pf_attention", type, *arguments, paged.tables.shape[1], max(lens))
        return Trial(
            partial(launch, heads.dim**-0.5),
            lambda: s.difference("out", out, _reference(s, q, paged, [1] * seqs, heads), absolute=2**-8),
            {} if cache == "int8" else {"flashinfer": peer},
        )

    token = 2 * heads.kv * (heads.dim * BYTES[cache] + (4 if cache == "int8" else 0))
    flops = 4 * sum(lens) * width
    bytes_ = token * sum(lens) + 2 * BYTES[type] * seqs * width
    return Case(of_type(f"decode, {cache} cache", type), shape, bytes_, flops, "fp32", prepare, type=type)


def prefill(
    shape: str,
    *,
    counts: Sequence[int],
    lens: Sequence[int],
    heads: Heads,
    cache: str = "bf16",
    type: str = "bf16",
) -> Case:
    """The last `counts` tokens of sequences of `lens`; what stands before is in the cache already."""
    seqs, width, tokens = len(lens), heads.query * heads.dim, sum(counts)

    def prepare(s: Setup) -> Trial:
        torch = s.torch
        paged, q, out = _paged(s, cache, lens, heads), s.normal(tokens, width), s.output(tokens, width)
        starts = s.numbers([sum(counts[:i]) for i in range(seqs + 1)])
        arguments = (cache, q, out, paged.struct, starts, s.numbers(list(lens)), paged.tables)
        prepared: list[Any] = []

        def peer() -> object:
            if not prepared:
                wrapper = flashinfer().BatchPrefillWithPagedKVCacheWrapper(
                    torch.empty(WORKSPACE, dtype=torch.uint8, device=q.device), "HND"
                )
                wrapper.plan(
                    starts,
                    *_tables_of_flashinfer(s, paged),
                    heads.query,
                    heads.kv,
                    heads.dim,
                    BLOCK,
                    causal=True,
                    q_data_type=q.dtype,
                    kv_data_type=paged.k.dtype,
                )
                prepared.append(wrapper)
            return prepared[0].run(q.view(tokens, heads.query, heads.dim), (paged.k, paged.v))

        launch = partial(
            s.kernels.launch, "pf_prefill", type, *arguments, tokens, seqs, heads.query, paged.tables.shape[1]
        )
        return Trial(
            partial(launch, heads.dim**-0.5),
            lambda: s.difference("out", out, _reference(s, q, paged, counts, heads), absolute=2**-6),
            {} if cache == "int8" else {"flashinfer": peer},
        )

    seen = sum(count * length - count * (count - 1) // 2 for count, length in zip(counts, lens, strict=True))
    cached = 2 * sum(lens) * heads.kv * (heads.dim * BYTES[cache] + (4 if cache == "int8" else 0))
    bytes_ = cached + 2 * BYTES[type] * tokens * width
    kernel = of_type(f"prefill, {cache} cache", type)
    return Case(kernel, shape, bytes_, 4 * seen * width, type, prepare, needs_mma=True, type=type)
