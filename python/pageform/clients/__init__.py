"""Clients of other providers, made to answer with validated values.

    from pageform.clients import from_openai
    client = from_openai(OpenAI(), model="gpt-5-mini")
    user = client.create(User, messages=[{"role": "user", "content": "Ann is 30."}])

A provider is a module of pure functions (`base.Provider`) and a row in a table; it owns nothing and imports no SDK. A
`Client` holds the caller's SDK client, drives the retry loop of `structured` with it, and passes everything else
through.
"""

from .client import Client
from .connect import (
    from_anthropic,
    from_cohere,
    from_genai,
    from_groq,
    from_litellm,
    from_mistral,
    from_openai,
    from_provider,
    patch,
)
from .engine_client import EngineClient, from_engine

__all__ = [
    "Client",
    "EngineClient",
    "from_anthropic",
    "from_cohere",
    "from_engine",
    "from_genai",
    "from_groq",
    "from_litellm",
    "from_mistral",
    "from_openai",
    "from_provider",
    "patch",
]
