"""Drawn types on each provider: requests fit the SDK's types, and what the sent schema admits is taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from conversation import call_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people import ASK
from rigs import RIGS, Rig, said

from pageform.clients.table import SERVICES, provider
from pageform.structured import Mode, Spec, ValidationFailed
from tests.structured.schema_values import types, values

ASKED: dict[str, Any] = {"messages": ASK, "model": "m", "max_tokens": 1000}
PAIRS = [
    pytest.param(RIGS[name], mode, id=f"{name}-{mode}")
    for name in ("anthropic", "cohere", "mistral", "google")
    for mode in (Mode.TOOLS, Mode.SCHEMA)
]


def sent_schema(name: str, mode: Mode, kwargs: dict[str, Any]) -> Any:
    """The schema that a request in this mode holds."""
    if name == "anthropic":
        format = kwargs.get("output_config", {}).get("format", {})
        return kwargs["tools"][0]["input_schema"] if mode is Mode.TOOLS else format["schema"]
    if name == "google":
        config = kwargs["config"]
        declared = config.get("tools", [{}])[0].get("function_declarations", [{}])[0]
        return declared["parameters_json_schema"] if mode is Mode.TOOLS else config["response_json_schema"]
    if mode is Mode.TOOLS:
        return kwargs["tools"][0]["function"]["parameters"]
    form = kwargs["response_format"]["json_schema"]
    return form["schema_definition"] if name == "mistral" else form


@pytest.mark.parametrize(("rig", "mode"), PAIRS)
def test_what_the_sent_schema_admits_is_taken(rig: Rig, mode: Mode) -> None:
    module = provider(SERVICES[rig.name].sdk.provider)
    taken = 0
    with rig.server() as server:
        client = rig.client(server.url, False, mode=mode, max_retries=0)

        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(drawn=types(), data=st.data())
        def check(drawn: Any, data: st.DataObject) -> None:
            nonlocal taken
            prepared = module.prepare(call_of(drawn, mode, **ASKED))
            used = prepared.mode or mode
            if used is Mode.TEXT:
                assert prepared.notes
                return
            schema = sent_schema(rig.name, used, prepared.kwargs)
            answer = json.dumps(data.draw(values(schema, schema)))
            spec = Spec.of(drawn)
            name = next(iter(spec.members), spec.tool_name) if used is Mode.TOOLS else ""
            server.say(rig.wire.reply(said(used, name, answer)))
            try:
                client.create(drawn, ASK)
                refused = False
            except ValidationFailed:
                refused = True
            assert prepared.notes or not refused, f"admitted by {schema}, refused by {drawn}: {answer}"
            taken += not refused

        check()
    assert taken >= 5
