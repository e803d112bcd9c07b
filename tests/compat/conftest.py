"""Fixtures of the programs: the module under test, a scripted server, and OpenAI's SDK pointed at it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from compat_tools import MODULE, WIRE
from scripted_server import ScriptedServer


@pytest.fixture
def instructor() -> Any:
    return importlib.import_module(MODULE)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    checks = {} if MODULE == "instructor" else {WIRE.path: WIRE.check}  # it sends null fields that the SDK's types lack
    with ScriptedServer(checks) as running:
        yield running


@pytest.fixture
def sdk(server: ScriptedServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture
def async_sdk(server: ScriptedServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
