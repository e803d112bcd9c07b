"""A process that works on a batch with a tiny engine, to be killed: `python engine_worker.py model state`."""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, field_validator

from pageform.batch import Batch, EngineBatches


class Word(BaseModel):
    """A tiny model's answer: any letters. About one in twenty is refused."""

    word: Annotated[str, Field(pattern="^[a-z]{4}$")]

    @field_validator("word")
    @classmethod
    def liked(cls, value: str) -> str:
        if zlib.crc32(value.encode()) % 20 == 0:
            raise ValueError("I don't like this word")
        return value


def write_model(folder: Path) -> Path:
    from tiny import write_tiny_llama

    write_tiny_llama(folder)
    template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    return folder


def engine_of(model: str) -> EngineBatches:
    from pageform import Engine

    return EngineBatches(Engine(model, threads=2, kv_cache_memory="64MB", max_model_len=512, max_num_seqs=64))


if __name__ == "__main__":
    model, state = sys.argv[1:]
    with Batch.open(state, engine_of(model), response_model=Word) as batch:
        print("working", flush=True)
        print(batch.run().state, flush=True)
