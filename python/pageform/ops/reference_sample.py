"""The meaning of the op `sample`, row by row; csrc/ops/sample/sample.h is the contract in words.

Written in numpy, since the parameters and answers of a step are numpy arrays. Noise is bit for bit that of the native
backends; the rest differs from them by rounding at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .reference_types import ReferenceCall, ReferenceStep
from .sampling import F32, ROW_MASK_EMPTY, ROW_NONFINITE, U32, Sampled, SamplingInputs

if TYPE_CHECKING:
    from torch import Tensor

I64 = npt.NDArray[np.int64]


def philox(key: tuple[int, int], counter: tuple[npt.NDArray[np.uint64] | int, ...]) -> npt.NDArray[np.uint64]:
    """Philox4x32-10 (J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).

    `counter` holds four words or arrays of words of shape [n]; the result is [4, n].
    """
    low = np.uint64(0xFFFFFFFF)
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, np.uint64) for word in counter))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & low,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & low,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def gumbel_noise(seed: int, stream: int, position: int, vocab: int) -> F32:
    """Standard Gumbel noise of tokens 0 … vocab - 1, [vocab]; a function of the arguments and the token's id only."""
    groups = -(-vocab // 64)  # 64 tokens use four words of sixteen blocks: token t word (t % 64) / 16, block t % 16
    blocks = np.arange(16 * groups, dtype=np.uint64)
    words = philox((seed & 0xFFFFFFFF, seed >> 32), (blocks, position, stream, 0))
    words = words.reshape(4, groups, 16).transpose(1, 0, 2).reshape(-1)[:vocab]
    uniform = (words.astype(np.float64) + 0.5) * 2.0**-32
    return (-np.log(-np.log(uniform))).astype(np.float32)


def kept_tokens(z: F32, min_p: float, top_k: int, top_p: float) -> I64:
    """Ids that min_p, top_k and top_p leave of scaled logits z [V] whose maximum is 0, most likely first."""
    order: I64 = np.lexsort((np.arange(len(z)), -z))
    order = order[z[order] > -np.inf]
    if min_p > 0:
        order = order[z[order] >= np.float32(np.log(np.float64(min_p)))]
    if 0 < top_k < len(z):
        order = order[:top_k]
    if top_p < 1:
        mass = np.exp(z[order].astype(np.float64))
        before = np.concatenate([[0.0], np.cumsum(mass)[:-1]])
        order = order[before < np.float64(np.float32(top_p)) * mass.sum()]
    return order


def masked_logits(inputs: SamplingInputs, row: int, logits: F32) -> F32:
    """A copy of logits [V] with -inf where the row's mask forbids."""
    x = logits.copy()
    if inputs.mask_row is not None and inputs.masks is not None and inputs.mask_row[row] >= 0:
        x[~mask_bits(inputs.masks[inputs.mask_row[row]], len(x))] = -np.inf
    return x


def adjusted_logits(inputs: SamplingInputs, row: int, logits: F32) -> F32:
    """Logits [V] of a row after mask, bias and penalties."""
    x = masked_logits(inputs, row, logits)
    if inputs.bias_start is not None and inputs.bias_tokens is not None and inputs.bias_values is not None:
        part = slice(inputs.bias_start[row], inputs.bias_start[row + 1])
        np.add.at(x, inputs.bias_tokens[part], inputs.bias_values[part])
    if inputs.count_start is not None and inputs.count_tokens is not None and inputs.count_values is not None:
        part = slice(inputs.count_start[row], inputs.count_start[row + 1])
        tokens, counts = inputs.count_tokens[part], inputs.count_values[part]
        seen = x[tokens]
        seen = np.where(seen > 0, seen / inputs.repetition[row], seen * inputs.repetition[row])
        seen = seen - inputs.frequency[row] * counts.astype(np.float32)
        x[tokens] = np.where(counts > 0, seen - inputs.presence[row], seen)
    return x


def mask_bits(words: U32, vocab: int) -> npt.NDArray[np.bool_]:
    """A packed mask as booleans [vocab]."""
    bits: npt.NDArray[np.uint32] = (words[:, None] >> np.arange(32, dtype=np.uint32)) & np.uint32(1)
    return bits.reshape(-1)[:vocab].astype(bool)


def only_allowed(step: ReferenceStep, row: int) -> npt.NDArray[np.bool_] | None:
    """Booleans [vocab] of the logits that a row reads, if it reads none but those that its mask allows; else None."""
    inputs = step.sampling
    if step.copy_logits or inputs is None or inputs.mask_row is None or inputs.masks is None:
        return None
    if inputs.mask_row[row] < 0 or inputs.defer[row] or inputs.target[row] >= 0 or inputs.num_logprobs[row] >= 0:
        return None
    if inputs.weigh is not None and inputs.weigh[row]:
        return None
    return mask_bits(inputs.masks[inputs.mask_row[row]], inputs.vocab)


def sample(call: ReferenceCall, step: ReferenceStep, logits: Tensor) -> tuple[()]:
    """Samples or scores every row of logits [R, ≥ vocab] and writes `step.sampled`."""
    inputs, sampled = step.sampling, step.sampled
    if inputs is None or sampled is None:
        raise ValueError("op 'sample' needs step.sampling and step.sampled")
    for row, values in enumerate(logits.float().cpu().numpy()):
        _sample_row(inputs, sampled, row, values[: inputs.vocab or None], step.copy_logits, only_allowed(step, row))
    return ()


def _sample_row(
    inputs: SamplingInputs,
    sampled: Sampled,
    row: int,
    logits: F32,
    copy_logits: bool,
    allowed: npt.NDArray[np.bool_] | None,
) -> None:
    sampled.ids[row], sampled.logprobs[row], sampled.ranks[row], sampled.status[row] = -1, 0.0, 0, 0
    sampled.top_ids[row], sampled.top_logprobs[row] = -1, 0.0
    sampled.log_allowed[row] = sampled.allowed_logprobs[row] = 0.0
    if sampled.logits is not None and (copy_logits or inputs.defer[row]):
        sampled.logits[row] = logits
    if inputs.defer[row]:
        return
    read = logits if allowed is None else logits[allowed]
    if np.isnan(read).any() or (read == np.inf).any() or (allowed is None and read.max() == -np.inf):
        sampled.status[row] = ROW_NONFINITE
        return
    token = int(inputs.target[row])
    scored = token >= 0
    if not scored:
        x = adjusted_logits(inputs, row, logits)
        if x.max() == -np.inf:
            sampled.status[row] = ROW_MASK_EMPTY
            return
        token = _choose(inputs, row, x)
    sampled.ids[row] = token
    weighed = inputs.weigh is not None and bool(inputs.weigh[row])
    if scored or weighed or inputs.num_logprobs[row] >= 0:
        _describe(inputs, sampled, row, logits, token)
    if weighed:
        _weigh(inputs, sampled, row, logits, token)


def _choose(inputs: SamplingInputs, row: int, x: F32) -> int:
    if inputs.temperature[row] == 0:
        return int(np.argmax(x))
    z = ((x - x.max()) / inputs.temperature[row]).astype(np.float32)
    kept = kept_tokens(z, float(inputs.min_p[row]), int(inputs.top_k[row]), float(inputs.top_p[row]))
    noise = gumbel_noise(int(inputs.seed[row]), int(inputs.stream[row]), int(inputs.position[row]), len(z))
    score = np.full(len(z), -np.inf, np.float32)
    score[kept] = z[kept] + noise[kept]
    return int(np.argmax(score))


def _describe(inputs: SamplingInputs, sampled: Sampled, row: int, logits: F32, token: int) -> None:
    wide = logits.astype(np.float64)
    logprobs = wide - (wide.max() + np.log(np.exp(wide - wide.max()).sum()))
    order: I64 = np.lexsort((np.arange(len(logits)), -logits))
    sampled.logprobs[row] = logprobs[token]
    sampled.ranks[row] = int(np.nonzero(order == token)[0][0]) + 1
    top = order[: max(0, int(inputs.num_logprobs[row]))]
    top = top[logits[top] > -np.inf]
    sampled.top_ids[row, : len(top)] = top
    sampled.top_logprobs[row, : len(top)] = logprobs[top]


def _weigh(inputs: SamplingInputs, sampled: Sampled, row: int, logits: F32, token: int) -> None:
    masked = masked_logits(inputs, row, logits)
    log_kept = _log_sum_exp(masked)
    sampled.log_allowed[row] = min(0.0, log_kept - _log_sum_exp(logits))
    sampled.allowed_logprobs[row] = masked[token] - log_kept if masked[token] > -np.inf else -np.inf


def _log_sum_exp(values: F32) -> float:
    wide = values.astype(np.float64)
    largest = wide.max()
    return float(largest if largest == -np.inf else largest + np.log(np.exp(wide - largest).sum()))
