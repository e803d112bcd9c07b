"""Kernels that prepare attention: angles, the cache that it reads, and the block pool on the device."""

from __future__ import annotations

from functools import partial
from typing import Any

from .attention import BLOCK, Heads
from .case import BYTES, Case, Setup, Trial, of_type
from .library import cache_struct


def _angles(s: Setup, half: int) -> Any:
    """Frequencies of RoPE with base 500,000, as Llama 3 has it."""
    exponents = s.torch.arange(half, dtype=s.torch.float64, device=s.kernels.device) / half
    return (500_000.0**-exponents).float()


def rope_angles(shape: str, *, tokens: int, half: int) -> Case:
    def prepare(s: Setup) -> Trial:
        positions, frequencies = s.whole(0, 131_072, tokens), _angles(s, half)
        cs = s.output(tokens, 2 * half, dtype="float32")

        def check() -> str:
            exact = positions.double()[:, None] * frequencies.double()
            return s.difference("cs", cs, s.torch.cat([exact.cos(), exact.sin()], -1), 0.0, 0.0, units=1e-6)

        launch = partial(s.kernels.launch, "pf_rope_angles", positions, frequencies, cs, tokens, half)
        return Trial(launch, check)

    return Case("rope_angles", shape, tokens * (8 * half + 4) + 4 * half, 40 * tokens * half, "fp64", prepare)


def mrope_angles(shape: str, *, tokens: int, half: int) -> Case:
    """M-RoPE of Qwen2-VL: a quarter of the pairs turns by time, and of the rest one half each by height and width."""
    rows = half * 3 // 8

    def prepare(s: Setup) -> Trial:
        positions, frequencies = s.whole(0, 4096, 3, tokens), _angles(s, half)
        cs = s.output(tokens, 2 * half, dtype="float32")

        def check() -> str:
            axes = [0] * (half - 2 * rows) + [1] * rows + [2] * rows
            exact = positions[axes].double().T * frequencies.double()
            return s.difference("cs", cs, s.torch.cat([exact.cos(), exact.sin()], -1), 0.0, 0.0, units=1e-6)

        arguments = (positions, frequencies, cs, tokens, half, rows, rows)
        return Trial(partial(s.kernels.launch, "pf_mrope_angles", *arguments), check)

    return Case("mrope_angles", shape, tokens * (8 * half + 12) + 4 * half, 40 * tokens * half, "fp64", prepare)


def extend_tables(shape: str, *, seqs: int, length: int, num_blocks: int, spare: int = 4) -> Case:
    """Room for one token more a sequence; sequence i has length + i % BLOCK tokens, and every fourth block is free."""
    lens = [length + i % BLOCK for i in range(seqs)]
    held = [-(-n // BLOCK) for n in lens]
    new = sum(n % BLOCK == 0 for n in lens)

    def prepare(s: Setup) -> Trial:
        torch = s.torch
        free = [i % 4 == 1 for i in range(num_blocks)]
        taken = [i for i in range(num_blocks) if not free[i]]
        if sum(held) > len(taken) or new > sum(free):
            raise ValueError(f"{num_blocks} blocks are too few for {seqs} sequences of {length} tokens")
        max_blocks = max(held) + spare
        rows, refs, at = [], [0] * num_blocks, 0
        for count in held:
            own, at = taken[at : at + count], at + count
            rows.append(own + [-1] * (max_blocks - count))
            for block in own:
                refs[block] = 1
        words = [0] * (-(-num_blocks // 32))
        for block, is_free in enumerate(free):
            words[block // 32] |= is_free << (block % 32)
        signed = [word - 2**32 if word >= 2**31 else word for word in words]
        bits, tables, sizes = s.numbers(signed), s.numbers(rows), s.numbers(lens)
        outputs = [s.output(seqs, dtype="int32") for _ in range(4)]  # slots, granted, copy_from, copy_to
        scratch, starts = s.output(seqs + num_blocks, dtype="int32"), s.numbers(list(range(seqs + 1)))

        def check() -> str:
            lowest, slots, wanted = iter([i for i in range(num_blocks) if free[i]]), [], [list(row) for row in rows]
            left = list(words)
            for i, n in enumerate(lens):
                if n % BLOCK == 0:
                    block = wanted[i][n // BLOCK] = next(lowest)
                    left[block // 32] &= ~(1 << (block % 32))
                slots.append(wanted[i][n // BLOCK] * BLOCK + n % BLOCK)
            unsigned = bits.long() & 0xFFFFFFFF
            return (
                s.unequal("slots", outputs[0], s.numbers(slots))
                or s.unequal("granted", outputs[1], torch.ones_like(outputs[1]))
                or s.unequal("copy_from", outputs[2], -torch.ones_like(outputs[2]))
                or s.unequal("lens", sizes, s.numbers([n + 1 for n in lens]))
                or s.unequal("tables", tables, s.numbers(wanted))
                or s.unequal("free", unsigned, torch.tensor(left, device=unsigned.device))
            )

        arguments = (bits, s.numbers(refs), tables, sizes, starts, *outputs, scratch)
        launch = partial(s.kernels.launch, "pf_extend_tables", *arguments, num_blocks, BLOCK, seqs, max_blocks, seqs)
        return Trial(launch, check)

    bytes_ = num_blocks // 8 + 4 * (seqs * 8 + new * 4)
    return Case("extend_tables", shape, bytes_, 0, "fp32", prepare)


def rope_cache(shape: str, *, tokens: int, heads: Heads, type: str = "bf16") -> Case:
    """Queries and keys turned, keys and values written to the cache."""
    width, kv_width = heads.query * heads.dim, heads.kv * heads.dim

    def prepare(s: Setup) -> Trial:
        torch = s.torch
        q, k, v = s.normal(tokens, width), s.normal(tokens, kv_width), s.normal(tokens, kv_width)
        angles = s.normal(tokens, heads.dim // 2, dtype="float32", scale=10.0)
        cs, q_out = torch.cat([angles.cos(), angles.sin()], -1), s.output(tokens, width)
        blocks = -(-tokens // BLOCK) + 1
        slots = s.shuffled(blocks * BLOCK)[:tokens].contiguous()
        cache = [s.output(blocks, heads.kv, BLOCK, heads.dim) for _ in range(2)]

        def turned(x: Any) -> Any:
            first, second = x.float().reshape(tokens, -1, heads.dim).chunk(2, -1)
            cos, sin = angles.cos()[:, None], angles.sin()[:, None]
            both = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
            return both.reshape(tokens, -1)

        def check() -> str:
            at = slots.long()
            written = [part[at // BLOCK, :, at % BLOCK].reshape(tokens, -1) for part in cache]
            others = int((~torch.isnan(cache[1].float())).sum()) != tokens * kv_width
            return (
                s.difference("q", q_out, turned(q))
                or s.difference("k", written[0], turned(k))
                or s.unequal("v", written[1], v)
                or ("slots of no token were written" if others else "")
            )

        arguments = (type, type, q, k, v, cs, slots, q_out, cache_struct(*cache), tokens, heads.query)
        return Trial(partial(s.kernels.launch, "pf_rope_cache", *arguments), check)

    bytes_ = tokens * (2 * BYTES[type] * (width + 2 * kv_width) + 4 * heads.dim + 4)
    kernel = of_type("rope + cache write", type)
    return Case(kernel, shape, bytes_, 3 * tokens * (width + kv_width), "fp32", prepare, type=type)


def copy_blocks(shape: str, *, count: int, heads: Heads) -> Case:
    """Copy on write within one layer, keys and values."""

    def prepare(s: Setup) -> Trial:
        cache = [s.normal(2 * count, heads.kv, BLOCK, heads.dim) for _ in range(2)]
        before, places = [part.clone() for part in cache], s.shuffled(2 * count)
        source, target = places[:count].contiguous(), places[count:].contiguous()

        def check() -> str:
            found = ""
            for part, old in zip(cache, before, strict=True):
                wanted = old.clone()
                wanted[target.long()] = old[source.long()]
                found = found or s.unequal("blocks", part, wanted)
            return found

        return Trial(
            partial(s.kernels.launch, "pf_copy_blocks", "bf16", cache_struct(*cache), source, target, count), check
        )

    return Case("copy_blocks", shape, 8 * count * heads.kv * BLOCK * heads.dim, 0, "fp32", prepare)


def fork(shape: str, *, seqs: int, length: int, heads: Heads) -> Case:
    """Each of `seqs` sequences gets a child, both grow by a token, and each gets a copy of the block that they shared.

    One layer. `length` is no multiple of BLOCK. Copies lie in the lowest free blocks, which are those behind the taken
    ones: the parents' first, since sequences are served in turn.
    """
    held = -(-length // BLOCK)
    num_blocks, max_blocks = seqs * (held + 2), held + 4

    def prepare(s: Setup) -> Trial:
        torch = s.torch
        taken = seqs * held
        rows = [[i * held + j for j in range(held)] + [-1] * 4 for i in range(seqs)] + [[-1] * max_blocks] * seqs
        bits = [sum((32 * w + b >= taken) << b for b in range(32)) for w in range(-(-num_blocks // 32))]
        free = s.numbers([word - 2**32 if word >= 2**31 else word for word in bits])
        refs = s.numbers([1] * taken + [0] * 2 * seqs)
        tables, lens = s.numbers(rows), s.numbers([length] * seqs + [0] * seqs)
        parents, children = s.numbers(list(range(seqs))), s.numbers(list(range(seqs, 2 * seqs)))
        slots, granted, source, target = (s.output(2 * seqs, dtype="int32") for _ in range(4))
        scratch, starts = s.output(2 * seqs + num_blocks, dtype="int32"), s.numbers(list(range(2 * seqs + 1)))
        cache = [s.normal(num_blocks, heads.kv, BLOCK, heads.dim) for _ in range(2)]
        before = [part.clone() for part in cache]
        sizes = (num_blocks, BLOCK, 2 * seqs, max_blocks)

        def launch() -> None:
            s.kernels.launch("pf_fork_tables", free, refs, tables, lens, parents, children, *sizes, seqs)
            outputs = (slots, granted, source, target, scratch)
            s.kernels.launch("pf_extend_tables", free, refs, tables, lens, starts, *outputs, *sizes, 2 * seqs)
            s.kernels.launch("pf_copy_blocks", "bf16", cache_struct(*cache), source, target, 2 * seqs)

        def check() -> str:
            shared = torch.arange(seqs) * held + held - 1
            own = taken + torch.arange(2 * seqs)
            wanted = torch.tensor(rows[:seqs] * 2)[:, :held]
            wanted[:, held - 1] = own
            found = s.unequal("tables", tables.cpu()[:, :held], wanted)
            counts = torch.cat([torch.full((taken,), 2), torch.ones(2 * seqs)])
            counts[shared] = 0
            found = found or s.unequal("refs", refs.cpu(), counts)
            for part, old in zip(cache, before, strict=True):
                copied = old.clone()
                copied[own] = old[shared.repeat(2)]
                found = found or s.unequal("blocks", part, copied)
            return found

        return Trial(launch, check)

    bytes_ = 12 * seqs * heads.kv * BLOCK * heads.dim + 4 * (4 * seqs * held + num_blocks // 32)
    return Case("fork + copy on write", shape, bytes_, 0, "fp32", prepare)


def transfer(shape: str, *, count: int, num_layers: int, heads: Heads, gather: bool) -> Case:
    """All layers of some blocks to one piece of memory, or back, as a transfer and swapping want them."""
    block = 2 * heads.kv * BLOCK * heads.dim

    def prepare(s: Setup) -> Trial:
        layers = s.normal(2 * num_layers, 2 * count, block // 2)
        packed = s.normal(count, 2 * num_layers, block // 2)
        blocks = s.shuffled(2 * count)[:count].contiguous()
        before = layers.clone(), packed.clone()

        def check() -> str:
            if gather:
                wanted = before[0][:, blocks.long()].transpose(0, 1)
                return s.unequal("buffer", packed, wanted) or s.unequal("layers", layers, before[0])
            spread = before[0].clone()
            spread[:, blocks.long()] = before[1].transpose(0, 1)
            return s.unequal("layers", layers, spread)

        arguments = (gather, layers, 2 * count * block, blocks, packed, block, count, num_layers)
        return Trial(partial(s.kernels.launch, "pf_transfer_blocks", *arguments), check)

    bytes_ = 2 * count * 2 * num_layers * block + 4 * count
    return Case("gather_blocks" if gather else "scatter_blocks", shape, bytes_, 0, "fp32", prepare)
