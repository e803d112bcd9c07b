"""Sampling in one pass: temperature, top-k, top-p, noise, and the log-probability of what was taken."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

from .case import Case, Setup, Trial
from .library import Struct

TOP_K = 50


class _Sampling(ctypes.Structure):
    """PfSampling of csrc/runtime/backend.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("temperature", "top_p", "min_p", "top_k", "repetition", "presence")),
        *((name, ctypes.c_void_p) for name in ("frequency", "seed", "stream", "position", "num_logprobs", "target")),
        *((name, ctypes.c_void_p) for name in ("defer", "mask_row", "masks", "bias_start", "bias_tokens")),
        *((name, ctypes.c_void_p) for name in ("bias_values", "count_start", "count_tokens", "count_values")),
        *((name, ctypes.c_int32) for name in ("num_masks", "max_logprobs", "vocab")),
        ("weigh", ctypes.c_void_p),
    )


class _Sampled(ctypes.Structure):
    """PfSampled of csrc/runtime/backend.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("ids", "logprobs", "ranks", "top_ids", "top_logprobs", "status")),
        *((name, ctypes.c_void_p) for name in ("logits_out", "log_allowed", "allowed_logprobs")),
    )


def sample(shape: str, *, rows: int, vocab: int) -> Case:
    """Every second row is greedy; the others have temperature 0.8, top-k 50 and top-p 0.95."""

    def prepare(s: Setup) -> Trial:
        torch, device = s.torch, s.kernels.device

        def full(value: float, dtype: Any = torch.float32, count: int = rows) -> Any:
            return torch.full((count,), value, dtype=dtype, device=device)

        logits, greedy = s.normal(rows, vocab, dtype="float32", scale=3.0), torch.arange(rows, device=device) % 2 == 0
        whole = torch.int32
        inputs = {
            "temperature": torch.where(greedy, 0.0, 0.8).float(),
            "top_p": torch.where(greedy, 1.0, 0.95).float(),
            "min_p": full(0.0),
            "top_k": torch.where(greedy, 0, min(TOP_K, vocab)).to(whole),
            "repetition": full(1.0),
            "presence": full(0.0),
            "frequency": full(0.0),
            "seed": torch.arange(rows, dtype=torch.int64, device=device),
            "stream": full(0, whole),
            "position": full(0, whole),
            "num_logprobs": full(0, whole),
            "target": full(-1, whole),
            "defer": full(0, torch.uint8),
            "mask_row": full(-1, whole),
            "bias_start": full(0, whole, rows + 1),
            "count_start": full(0, whole, rows + 1),
        }
        outputs = {
            "ids": s.output(rows, dtype="int32"),
            "logprobs": s.output(rows, dtype="float32"),
            "ranks": s.output(rows, dtype="int32"),
            "status": s.output(rows, dtype="uint8"),
        }
        scratch = s.output(rows, vocab, dtype="float32")
        sampling, sampled = Struct(_Sampling, **inputs, vocab=vocab), Struct(_Sampled, **outputs)

        def check() -> str:
            ids = outputs["ids"].long()
            if int(outputs["status"].sum()) or bool(((ids < 0) | (ids >= vocab)).any()):
                return f"status {outputs['status'].tolist()[:8]}, ids {ids.tolist()[:8]}"
            rank = (logits > logits.gather(1, ids[:, None])).sum(-1) + 1
            logprobs = logits.double().log_softmax(-1).gather(1, ids[:, None])[:, 0]
            far = int((rank[~greedy] > inputs["top_k"][~greedy]).sum())
            return (
                s.unequal("ids of greedy rows", ids[greedy], logits.argmax(-1)[greedy])
                or s.unequal("ranks", outputs["ranks"], rank)
                or s.difference("logprobs", outputs["logprobs"], logprobs, relative=1e-4, absolute=1e-5)
                or (f"{far} rows took a token beyond their top-k" if far else "")
            )

        def peer() -> object:
            best = (logits / 0.8).topk(min(TOP_K, vocab), dim=-1)
            return best.indices.gather(1, torch.multinomial(best.values.softmax(-1), 1))

        launch = partial(s.kernels.launch, "pf_sample", logits, scratch, sampling, sampled, rows)
        return Trial(launch, check, {"torch, top-k and multinomial": peer})

    return Case("sample", shape, 4 * rows * vocab, 6 * rows * vocab, "fp32", prepare)
