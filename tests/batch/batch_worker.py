"""A process that works on a batch, to be killed: `python batch_worker.py provider url state`."""

from __future__ import annotations

import sys
from typing import Any

from batch_people import Person

from pageform.batch import AnthropicBatches, Batch, OpenAIBatches, rounds
from pageform.structured import Backoff


def backend_of(provider: str, url: str) -> Any:
    if provider == "openai":
        from openai import OpenAI

        return OpenAIBatches(OpenAI(base_url=f"{url}/v1", api_key="none"))
    from anthropic import Anthropic

    return AnthropicBatches(Anthropic(base_url=url, api_key="none"))


if __name__ == "__main__":
    provider, url, state = sys.argv[1:]
    rounds.GRACE = 0.5
    with Batch.open(state, backend_of(provider, url), response_model=Person) as batch:
        print(batch.run(poll=Backoff(0.02, 1.0, jitter=False)).state)
