"""From words on the command line to objects: response types, and what answers a batch."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..core.errors import ParameterError
from ..structured.errors import ConfigurationError

PROVIDERS = ("openai", "anthropic", "engine")


def load_type(name: str) -> tuple[Any, str]:
    """The response type that `module:name` or `file.py:name` stands for, and `module:name` for the next time. Modules
    are looked for in the working folder too."""
    place, _, attribute = name.rpartition(":")
    remedy = "Write module:Class, such as people:Person for the class Person in people.py."
    if not place or not attribute:
        raise ParameterError("response-model", name, "names no class", remedy)
    folder, module = os.getcwd(), place
    if place.endswith(".py"):
        folder, module = str(Path(place).resolve().parent), Path(place).stem
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ParameterError("response-model", name, f"can't be loaded ({error})", remedy) from error
    return found, f"{module}:{attribute}"


@contextmanager
def backend_of(provider: str, model: str | None) -> Iterator[Any]:
    """What answers batches of that provider; an engine is closed at the end."""
    if provider == "engine":
        from ..batch import EngineBatches
        from ..engine import Engine

        with Engine(model or "smollm2") as engine:
            yield EngineBatches(engine)
    elif provider in PROVIDERS:
        yield _remote(provider)
    else:
        raise ParameterError("provider", provider, "has no batches here", f"Use one of {', '.join(PROVIDERS)}.")


def reader_of(provider: str) -> Any:
    """What reads the results of that provider's batches: asks nobody, needs no key and no model."""
    if provider == "openai":
        from ..batch.openai import reader

        return reader()
    if provider == "anthropic":
        from ..batch import anthropic

        return anthropic.reader()
    from ..batch.engine import EngineRequests

    return EngineRequests()


def _remote(provider: str) -> Any:
    """The SDKs read their keys and addresses from the environment."""
    try:
        if provider == "openai":
            import openai

            from ..batch import OpenAIBatches

            return OpenAIBatches(openai.OpenAI())
        import anthropic

        from ..batch import AnthropicBatches

        return AnthropicBatches(anthropic.Anthropic())
    except ImportError as error:
        remedy = f"Run pip install 'pageform[{provider}]'."
        raise ConfigurationError("provider", provider, f"its SDK is not installed ({error})", remedy) from error
    except Exception as error:
        if "api_key" not in str(error):
            raise
        remedy = f"Set {provider.upper()}_API_KEY in the environment."
        raise ConfigurationError("provider", provider, "no API key is set", remedy) from error


def settings_of(pairs: list[str]) -> dict[str, Any]:
    """Arguments given as `name=value`, the value as JSON or else as text."""
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, given, value = pair.partition("=")
        if not name or not given:
            raise ParameterError("set", pair, "is no name=value", "Write, for example, --set temperature=0.")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings
