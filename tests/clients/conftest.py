"""What client tests share: a scripted server that speaks OpenAI's chat API, and clients of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import providers_page
import pytest
from rigs import RIGS
from scripted_server import ScriptedServer
from wire_openai_chat import OpenAIChatWire

WIRE = OpenAIChatWire()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-providers", action="store_true", help="write docs/providers.md instead of comparing it with the tests"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The page of the providers comes last: it tells what the tests before it found."""
    items.sort(key=lambda item: item.name == "test_the_page_says_what_the_tests_found")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    providers_page.record(item, report)
    return report


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
