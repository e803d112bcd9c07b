"""What tokens cost: exact sums, parts with prices of their own, tiers, tables that are wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageform.clients.cost import Cost, Price, Prices, UnknownPrice, cost, cost_of
from pageform.core.completion import Attempt, Usage
from pageform.core.errors import ParameterError

TABLE = {
    "currency": "EUR",
    "per": 1_000_000,
    "models": {
        "plain": {"prompt": 2.5, "completion": 10},
        "rich": {
            "prompt": 2,
            "completion": 10,
            "cached": 0.5,
            "cache_write": 3,
            "cache_write_1h": 4,
            "audio_prompt": 20,
            "image_prompt": 5,
            "audio_completion": 40,
            "reasoning": 12,
        },
        "long": {
            "prompt": 1,
            "completion": 2,
            "cached": 0.1,
            "above": {"200": {"prompt": 3}, "1000": {"prompt": 5, "completion": 8}},
        },
        "free": {"prompt": 0, "completion": 0},
    },
}
PRICES = Prices.of(TABLE)


def micro(usage: Usage, model: str) -> tuple[Decimal, Decimal]:
    """The cost in millionths: prompt and completion."""
    spent = cost(usage, model, PRICES)
    assert spent.currency == "EUR"
    assert spent.total == spent.prompt + spent.completion
    return spent.prompt * 1_000_000, spent.completion * 1_000_000


@pytest.mark.parametrize(
    ("model", "usage", "prompt", "completion"),
    [
        ("plain", Usage(), 0, 0),
        ("plain", Usage(3, 7), Decimal("7.5"), 70),
        (
            "plain",
            Usage(10, 10, 9, {"reasoning_tokens": 5, "audio_prompt_tokens": 1}),
            25,
            100,
        ),  # no prices of their own
        ("openai/plain", Usage(3, 7), Decimal("7.5"), 70),
        ("free", Usage(1000, 1000), 0, 0),
        ("rich", Usage(100, 50, 60), 40 * 2 + 60 * Decimal("0.5"), 500),
        ("rich", Usage(100, 50, 0, {"reasoning_tokens": 30}), 200, 20 * 10 + 30 * 12),
        (
            "rich",
            Usage(100, 50, 0, {"audio_prompt_tokens": 10, "image_prompt_tokens": 20}),
            70 * 2 + 10 * 20 + 20 * 5,
            500,
        ),
        ("rich", Usage(100, 50, 0, {"audio_completion_tokens": 50}), 200, 50 * 40),
        (
            "rich",
            Usage(100, 0, 50, {"cache_write_tokens": 30, "cache_write_1h_tokens": 10}),
            20 * 2 + 50 * Decimal("0.5") + 20 * 3 + 10 * 4,
            0,
        ),
        ("rich", Usage(10, 0, 10, {"audio_prompt_tokens": 10}), 5, 0),  # cached audio is not billed twice
        ("long", Usage(200, 10), 200, 20),
        ("long", Usage(201, 10, 1), 200 * 3 + Decimal("0.1"), 20),
        ("long", Usage(1001, 10), 1001 * 5, 80),
    ],
)
def test_tokens_cost_what_the_table_says(model: str, usage: Usage, prompt: Any, completion: Any) -> None:
    assert micro(usage, model) == (prompt, completion)


@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.dictionaries(
        st.sampled_from(["reasoning_tokens", "audio_prompt_tokens", "image_prompt_tokens", "cache_write_tokens"]),
        st.integers(0, 10**6),
    ),
)
def test_whatever_is_reported_each_token_is_billed_once(
    prompt: int, completion: int, cached: int, details: Any
) -> None:
    """Also where a provider's parts add up to more than its totals."""
    spent = micro(Usage(prompt, completion, cached, details), "rich")
    assert prompt * Decimal("0.5") <= spent[0] <= prompt * 20
    assert completion * 10 <= spent[1] <= completion * 12
    assert micro(Usage(prompt, completion, cached, details), "plain") == (prompt * Decimal("2.5"), completion * 10)


def test_attempts_are_billed_one_by_one() -> None:
    usages = [Usage(150, 1), Usage(150, 1)]
    each = cost_of(usages, "long", PRICES)
    assert each.prompt * 1_000_000 == 300  # as one request of 300 tokens it would cost 900
    assert cost_of([Attempt(1, "", None, usages[0]), usages[1]], "long", PRICES) == each
    assert cost_of([], "long", PRICES) == Cost(currency="EUR")
    with pytest.raises(ParameterError, match="can't be added to EUR"):
        _ = each + Cost()


def test_tenths_add_up_exactly() -> None:
    prices = Prices.of({"models": {"m": {"prompt": 0.1, "completion": 0.2}}})
    assert cost(Usage(3, 0), "m", prices).total == Decimal("0.3")


def test_an_unknown_model_is_an_error_and_not_free() -> None:
    with pytest.raises(UnknownPrice, match="no price for it") as caught:
        cost(Usage(1, 1), "plian", PRICES)
    assert "plain" in caught.value.remedy
    with pytest.raises(UnknownPrice):
        cost(Usage(), "plain", Prices())


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ([], "prices"),
        ({}, "prices"),
        ({"models": []}, "prices"),
        ({"models": {}, "curency": "USD"}, "prices"),
        ({"models": {}, "per": 0}, "per"),
        ({"models": {}, "per": "x"}, "per"),
        ({"models": {"m": 3}}, "models.m"),
        ({"models": {"m": {"prompt": 1}}}, "models.m"),
        ({"models": {"m": {"prompt": 1, "completion": 1, "cachd": 1}}}, "models.m"),
        ({"models": {"m": {"prompt": -1, "completion": 1}}}, "models.m.prompt"),
        ({"models": {"m": {"prompt": "one", "completion": 1}}}, "models.m.prompt"),
        ({"models": {"m": {"prompt": True, "completion": 1}}}, "models.m.prompt"),
        ({"models": {"m": {"prompt": float("nan"), "completion": 1}}}, "models.m.prompt"),
        ({"models": {"m": {"prompt": 1, "completion": 1, "above": {"many": {}}}}}, "models.m.above"),
        ({"models": {"m": {"prompt": 1, "completion": 1, "above": {"9": {"x": 1}}}}}, "models.m.above.9"),
    ],
)
def test_a_wrong_table_is_an_error_that_says_where(table: Any, field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Prices.of(table)
    assert caught.value.field == field


def test_tables_in_files(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(TABLE), encoding="utf-8")
    assert Prices.from_file(path) == PRICES
    for content in ("{", "[]", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(ParameterError):
            Prices.from_file(path)
    with pytest.raises(ParameterError, match="can't be read"):
        Prices.from_file(tmp_path / "none.json")


def test_litellms_table_is_read_without_litellm() -> None:
    program = (
        "import sys; from pageform.clients.cost import Prices; p = Prices.from_litellm();"
        "print(len(p.models), 'litellm' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    count, loaded = done.stdout.split()
    assert int(count) > 1000
    assert loaded == "False"


COUNTS = [(1000, 200, 0, 0), (1000, 200, 640, 0), (300_000, 200, 1000, 0), (1000, 200, 100, 300)]
"""Prompt, completion, cached, written to the cache."""


def test_costs_agree_with_litellms_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle: litellm's calculation for the chat models in its table, tiers and cache writes included."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    prices, checked = Prices.from_litellm(), 0
    for name, entry in list(litellm.model_cost.items()):
        provider = entry.get("litellm_provider")
        if (
            entry.get("mode") != "chat"
            or name not in prices.models
            or provider not in ("openai", "anthropic", "mistral")
        ):
            continue
        for prompt, completion, cached, written in COUNTS:
            if (written and provider != "anthropic") or (cached and entry.get("cache_read_input_token_cost") is None):
                continue
            counts: Any = {"prompt_tokens_details": {"cached_tokens": cached}}
            if provider == "anthropic":
                counts = {"cache_read_input_tokens": cached, "cache_creation_input_tokens": written}
            total = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
            usage = litellm.Usage(**total, **counts)
            theirs = sum(
                litellm.cost_per_token(name.partition("/")[2] or name, usage_object=usage, custom_llm_provider=provider)
            )
            ours = cost(Usage(prompt, completion, cached, {"cache_write_tokens": written}), name, prices).total
            assert float(ours) == pytest.approx(theirs, rel=1e-9), name
            checked += 1
    assert checked > 300


def test_prices_are_plain_data() -> None:
    assert Prices({"m": Price(Decimal(1), Decimal(2))}).of_model("m").completion == 2
    assert cost(Usage(1, 1), "m", Prices({"m": Price(Decimal(1), Decimal(2))})) == Cost(Decimal(1), Decimal(2))
