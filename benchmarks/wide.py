"""An engine's path from tokens to partial objects, for wide objects: detokenizer, JSON machine, field tracker,
validators, snapshots. The tokens are given, so that what is measured is the path and not a model."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, Field, create_model
from safetensors.numpy import save_file

from pageform import Engine, SamplingParams
from pageform.core.request import Request
from pageform.core.states import RequestState
from pageform.engine.growing import TypedStream
from pageform.engine.options import StreamOptions, TypedOptions
from pageform.engine.typed import TypedCall
from pageform.text import load_tokenizer
from pageform.weights import open_checkpoint

from .report import Report

FIELDS = (500, 5_000)
PARTS = 10
"""The answer is cut into so many parts, whose time per token is compared."""
GROWTH = 1.5
RUNS = 3


@dataclass(slots=True)
class Streamed:
    """`seconds` of processor time a token in each part of the answer; the partial objects or events, and the last."""

    seconds: list[float]
    shown: int
    last: Any


class _NoControl:
    """Nothing is rewound, nothing held: these answers are valid."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        raise AssertionError(name)


def accepted(value: Any) -> Any:
    """A validator."""
    return value


def wide(size: int) -> type[BaseModel]:
    """An object of so many fields, texts and numbers, each with a validator."""
    text = Annotated[str, Field(max_length=8), AfterValidator(accepted)]
    number = Annotated[int, Field(ge=0, le=99), AfterValidator(accepted)]
    fields: dict[str, Any] = {f"field_{i:04d}": (number if i % 2 else text, ...) for i in range(size)}
    return create_model("Wide", **fields)


def answer(size: int) -> str:
    """The JSON of one."""
    return json.dumps({f"field_{i:04d}": i % 90 if i % 2 else "ab cd" for i in range(size)})


def stream(engine: Engine, model: type[BaseModel], text: str, **shown: Any) -> Streamed:
    """Takes an answer through a request's sink and what a stream makes of it. `shown` is as for `Engine.stream`."""
    changes: list[Any] = []
    call: TypedCall[Any] = TypedCall(engine, engine.form(model), [1], SamplingParams(), TypedOptions())
    watched = TypedStream(call, StreamOptions(**shown), changes.append)
    tokens = engine.tokenizer.encode(text, add_special_tokens=False)
    params = SamplingParams(temperature=0, max_tokens=len(tokens) + 16)
    ticket = engine.ticket([1], params, call.grammar, feed=watched.feed, **call.guarding())
    [request] = ticket.requests
    request.to(RequestState.RUNNING)
    request.sink.start(request, _NoControl())  # type: ignore[attr-defined]
    found = Streamed([], 0, None)
    size = -(-len(tokens) // PARTS)
    for start in range(0, len(tokens), size):
        part = tokens[start : start + size]
        began = time.process_time()
        for seen in _shown(request, part, watched, changes):
            found.last = seen
            found.shown += 1
        found.seconds.append((time.process_time() - began) / len(part))
    return found


def _shown(request: Request, tokens: list[int], watched: TypedStream, changes: list[Any]) -> Iterator[Any]:
    for token in tokens:
        request.append(token)
        request.sink.token(token, None)
        for change in changes:
            seen = watched.see(change)
            if seen is not None:
                yield seen
        changes.clear()


def make_engine(folder: Path, room: int) -> Engine:
    """An engine with SmolLM2's tokenizer and a context of so many tokens, around a model that is never run."""
    checkpoint = open_checkpoint("smollm2")
    tokenizer = load_tokenizer(checkpoint, "auto")
    assert tokenizer is not None
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    _write_model(folder, checkpoint.config.vocab_size, min(tokenizer.eos_ids), room)
    return Engine(folder, threads=1, dtype="float32", max_model_len=room, kv_cache_memory=256 * room)


def _write_model(folder: Path, vocab: int, end: int, room: int) -> None:
    size, layer = 16, "model.layers.0."
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": vocab,
        "hidden_size": size,
        "intermediate_size": size,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": room,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "tie_word_embeddings": True,
        "eos_token_id": end,
    }
    (folder / "config.json").write_text(json.dumps(config))
    square = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    tensors: dict[str, NDArray[np.float32]]
    tensors = {f"{layer}{name}.weight": np.zeros((size, size), np.float32) for name in square}
    tensors |= {f"{layer}{name}_layernorm.weight": np.ones(size, np.float32) for name in ("input", "post_attention")}
    tensors |= {"model.norm.weight": np.ones(size, np.float32)}
    tensors |= {"model.embed_tokens.weight": np.zeros((vocab, size), np.float32)}
    save_file(tensors, str(folder / "model.safetensors"))


def measure(report: Report, smoke: bool) -> None:
    """Adds the figures of this file to a report."""
    sizes = FIELDS[:1] if smoke else FIELDS
    ways: dict[str, dict[str, Any]] = {
        "partial objects": {},
        "one a field": {"partials": "fields"},
        "field events": {"events": True},
    }
    with tempfile.TemporaryDirectory() as folder, make_engine(Path(folder), 20 * sizes[-1]) as engine:
        for name, shown in ways.items():
            means = []
            for size in sizes:
                runs = [stream(engine, wide(size), answer(size), **shown) for _ in range(1 if smoke else RUNS)]
                parts = [min(of_part) for of_part in zip(*(run.seconds for run in runs), strict=True)]
                means.append(sum(parts) / len(parts))
                report.add(f"object of {size:,} fields, {name}", "µs a token", [part * 1e6 for part in parts])
                if name == "one a field":
                    report.check(f"{size:,} fields: one partial object each", runs[0].shown == size)
                if not smoke:
                    report.check(
                        f"{size:,} fields, {name}: the last tenth costs at most {GROWTH} times the first a token",
                        parts[-1] <= GROWTH * parts[0],
                    )
            if not smoke:
                growth = means[-1] / means[0]
                report.check(f"{name}: a token of the widest object costs at most {GROWTH} times", growth <= GROWTH)
    report.note(f"wide objects: processor time of the engine's path without its model, in {PARTS} parts of the answer")
