"""What client tests share: a scripted server that speaks OpenAI's chat API, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rigs import RIGS
from scripted_server import ScriptedServer
from wire_openai_chat import OpenAIChatWire

WIRE = OpenAIChatWire()


@pytest.fixture
def wire() -> OpenAIChatWire:
    return WIRE


@pytest.fixture
def chat() -> Iterator[ScriptedServer]:
    """A server whose requests are checked against OpenAI's parameter types."""
    with RIGS["openai"].server() as running:
        yield running


@pytest.fixture
def client(chat: ScriptedServer) -> Any:
    """A pageform client of that server."""
    return RIGS["openai"].client(chat.url, False)


@pytest.fixture
def later(chat: ScriptedServer) -> Any:
    """An async one."""
    return RIGS["openai"].client(chat.url, True)
