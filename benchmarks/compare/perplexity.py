"""How far the engine's quantized activations move its predictions: perplexity and KL divergence against fp32.

The reference is transformers on the same weights, dequantized, all in float32. Our logits are had by forcing: a logits
processor sees the whole row and then allows only the text's own next token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pageform import Engine, SamplingParams

from ..models import gguf_file
from ..options import Options
from ..report import Report

TOKENS, WINDOW = 4096, 512
ALLOWED_CHANGE, ALLOWED_KL = 0.005, 0.005

Logits = NDArray[np.float32]


def run(report: Report, options: Options, texts: Sequence[str]) -> None:
    """Adds both perplexities and the mean KL divergence, in nats, and checks them."""
    from ..baseline import Baseline  # torch and transformers

    reference = Baseline(gguf_file(options.model), options.threads)
    with Engine(options.model, threads=options.threads, max_num_seqs=1, kv_cache_memory="256MB") as engine:
        ids = engine.tokenizer.encode("\n\n".join(texts))
        windows = [ids[i : i + WINDOW + 1] for i in range(0, min(TOKENS, len(ids) - 1), WINDOW)]
        windows = [window for window in windows if len(window) > 1]
        losses: dict[str, float] = {"ours": 0.0, "fp32": 0.0}
        divergence, count = 0.0, 0
        for window in windows:
            ours, exact = log_softmax(forced_logits(engine, window)), log_softmax(reference.logits(window[:-1]))
            wanted = np.array(window[1:])
            rows = np.arange(len(wanted))
            losses["ours"] -= float(ours[rows, wanted].sum())
            losses["fp32"] -= float(exact[rows, wanted].sum())
            divergence += float((np.exp(exact) * (exact - ours)).sum())
            count += len(wanted)
    perplexity = {name: float(np.exp(loss / count)) for name, loss in losses.items()}
    change = perplexity["ours"] / perplexity["fp32"] - 1
    report.add(f"perplexity of {count} tokens of GSM8K, pageform", "", perplexity["ours"])
    report.add(f"perplexity of {count} tokens of GSM8K, fp32 activations", "", perplexity["fp32"])
    kl = report.add("mean KL divergence from fp32", "nats", divergence / count)
    text = f"perplexity within {ALLOWED_CHANGE:.1%} of fp32: {change:+.2%}"
    report.check(text, abs(change) <= ALLOWED_CHANGE)
    report.check(f"mean KL divergence ≤ {ALLOWED_KL}: {kl.median:.4f}", kl.median <= ALLOWED_KL)


def forced_logits(engine: Engine, window: Sequence[int]) -> Logits:
    """float32 [len(window) - 1, vocabulary]: row i predicts the token after the first i + 1."""
    rows: list[Logits] = []

    def force(output: list[int], logits: Any) -> Any:
        rows.append(np.array(logits, dtype=np.float32))
        forced = np.full_like(rows[-1], -np.inf)
        forced[window[1 + len(output)]] = 0.0
        return forced

    count = len(window) - 1
    processor: Callable[[list[int], Any], Any] = force
    params = SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True, logits_processors=[processor])
    engine.generate([list(window[:1])], sampling=params, progress=False)
    return np.stack(rows)


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
