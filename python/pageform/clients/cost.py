"""What tokens cost, by a table of prices that the caller brings. pageform knows no prices of its own.

    prices = Prices.from_file("prices.json")
    spent = cost_of(outcome.attempts, "my-model", prices)

A file holds JSON, prices for `per` tokens:

    {"currency": "USD", "per": 1000000, "models": {"my-model": {"prompt": 2.5, "completion": 10, "cached": 1.25}}}

`Prices.from_litellm()` reads the table that the installed litellm carries.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from ..core.completion import Attempt, Usage
from ..core.errors import ParameterError

_ZERO = Decimal(0)


class UnknownPrice(ParameterError):
    """The table has no price for a model: that is not the same as costing nothing."""


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of one token. Tokens of a kind without a price of its own cost what they are counted among: the prompt's
    `prompt`, the completion's `completion`.

    `above`: prices of requests whose prompt is longer than so many tokens, for all their tokens.
    """

    prompt: Decimal
    completion: Decimal
    cached: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    audio_prompt: Decimal | None = None
    image_prompt: Decimal | None = None
    audio_completion: Decimal | None = None
    reasoning: Decimal | None = None
    above: tuple[tuple[int, Price], ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """Money, exactly: `prompt` and `completion` in `currency`. Costs of one currency can be added."""

    prompt: Decimal = _ZERO
    completion: Decimal = _ZERO
    currency: str = "USD"

    @property
    def total(self) -> Decimal:
        """Both together."""
        return self.prompt + self.completion

    def __add__(self, other: Cost) -> Cost:
        if other.currency != self.currency:
            reason = f"can't be added to {self.currency}"
            raise ParameterError("currency", other.currency, reason, "Add costs of one currency.")
        return Cost(self.prompt + other.prompt, self.completion + other.completion, self.currency)


@dataclass(frozen=True, slots=True)
class Prices:
    """A table: model → `Price`."""

    models: Mapping[str, Price] = field(default_factory=dict)
    currency: str = "USD"

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Prices:
        """A table as it stands in a file. Raises ParameterError naming what is wrong in it."""
        if not isinstance(table, Mapping) or not isinstance(table.get("models"), Mapping):
            remedy = 'Give {"models": {"name": {"prompt": …, "completion": …}}}.'
            raise ParameterError("prices", table, "holds no models", remedy)
        unknown = sorted(set(table) - {"models", "currency", "per"})
        if unknown:
            raise ParameterError("prices", unknown, "are not known", "Use models, currency and per.")
        per = _number(table.get("per", 1), "per")
        if per == 0:
            raise ParameterError("per", 0, "is no number of tokens", "Give 1 or 1000000.")
        models = {str(name): _price(entry, per, f"models.{name}") for name, entry in table["models"].items()}
        return cls(models, str(table.get("currency", "USD")))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Prices:
        """A JSON file of the form above. Raises ParameterError."""
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"), parse_float=Decimal)
        except (OSError, ValueError, RecursionError) as error:
            raise ParameterError("prices", str(path), f"can't be read: {error}", "Give a JSON file.") from error
        return cls.of(table)

    @classmethod
    def from_litellm(cls) -> Prices:
        """The table in the installed litellm, in US dollars, read without importing or asking anyone. Its models whose
        prices are not by token are left out."""
        from importlib.util import find_spec

        spec = find_spec("litellm")
        if spec is None or spec.origin is None:
            raise ParameterError("prices", "litellm", "is not installed", "pip install litellm, or bring a table.")
        path = Path(spec.origin).with_name("model_prices_and_context_window_backup.json")
        try:
            table = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        except (OSError, ValueError) as error:
            reason = f"this version of litellm has no table that can be read: {error}"
            raise ParameterError("prices", str(path), reason, "Bring a table of your own.") from error
        prices = {name: _litellm_price(entry) for name, entry in table.items() if name != "sample_spec"}
        return cls({name: price for name, price in prices.items() if price is not None})

    def of_model(self, model: str) -> Price:
        """The price of a model: under its full name, else under what follows the first `/` (`openai/…`).
        Raises UnknownPrice."""
        for name in (model, model.partition("/")[2]):
            if name in self.models:
                return self.models[name]
        near = difflib.get_close_matches(model, self.models, n=3)
        hint = f" It has {', '.join(near)}." if near else ""
        raise UnknownPrice("model", model, "the table has no price for it", f"Add one to the table.{hint}")


def cost(usage: Usage, model: str, prices: Prices) -> Cost:
    """What the tokens of one request cost. Raises UnknownPrice.

    Where a price depends on the length of the prompt, a sum of requests is not the price of their summed usage: use
    `cost_of` for several.
    """
    price = prices.of_model(model)
    for limit, higher in sorted(price.above, key=lambda tier: tier[0]):
        price = higher if usage.prompt_tokens > limit else price
    written_1h = _detail(usage, "cache_write_1h_tokens")
    prompt = (
        (usage.cached_tokens, price.cached),
        (written_1h, price.cache_write if price.cache_write_1h is None else price.cache_write_1h),
        (_detail(usage, "cache_write_tokens") - written_1h, price.cache_write),
        (_detail(usage, "audio_prompt_tokens"), price.audio_prompt),
        (_detail(usage, "image_prompt_tokens"), price.image_prompt),
    )
    completion = (
        (_detail(usage, "audio_completion_tokens"), price.audio_completion),
        (_detail(usage, "reasoning_tokens"), price.reasoning),
    )
    return Cost(
        _billed(usage.prompt_tokens, price.prompt, prompt),
        _billed(usage.completion_tokens, price.completion, completion),
        prices.currency,
    )


def cost_of(attempts: Iterable[Attempt | Usage], model: str, prices: Prices) -> Cost:
    """What attempts (or usages), each a request of its own, cost together."""
    usages = (attempt.usage if isinstance(attempt, Attempt) else attempt for attempt in attempts)
    return sum((cost(usage, model, prices) for usage in usages), Cost(currency=prices.currency))


def _billed(total: int, price: Decimal, parts: Iterable[tuple[int, Decimal | None]]) -> Decimal:
    """Parts with a price of their own at it, the rest at the common one. Parts may overlap in what providers report
    (cached audio): they never make more tokens than there are."""
    left, billed = total, _ZERO
    for count, own in parts:
        if own is not None:
            taken = min(max(count, 0), left)
            left, billed = left - taken, billed + taken * own
    return billed + left * price


def _detail(usage: Usage, name: str) -> int:
    return usage.details.get(name, 0)


# --- reading tables --------------------------------------------------------------------------------------------------

_NAMES = tuple(one.name for one in fields(Price) if one.name != "above")


def _price(entry: Any, per: Decimal, where: str) -> Price:
    if not isinstance(entry, Mapping):
        raise ParameterError(where, entry, "is no mapping", 'Give {"prompt": …, "completion": …}.')
    unknown = sorted(set(entry) - {*_NAMES, "above"})
    if unknown:
        raise ParameterError(where, unknown, "are no prices", f"Use {', '.join(_NAMES)} and above.")
    given: dict[str, Any] = {
        name: _number(entry[name], f"{where}.{name}") / per for name in _NAMES if entry.get(name) is not None
    }
    for name in ("prompt", "completion"):
        if name not in given:
            raise ParameterError(where, dict(entry), f"has no price of {name} tokens", "Give it, 0 if they are free.")
    base = replace(Price(given["prompt"], given["completion"]), **given)
    above = entry.get("above") or {}
    if not isinstance(above, Mapping) or not all(str(limit).isdecimal() for limit in above):
        remedy = 'Give {"200000": {"prompt": …}}.'
        raise ParameterError(f"{where}.above", above, "is no mapping from numbers of tokens to prices", remedy)
    tiers = []
    for limit, tier in above.items():
        higher = _price({"prompt": 0, "completion": 0, **tier}, per, f"{where}.above.{limit}")
        tiers.append((int(limit), replace(base, **{name: getattr(higher, name) for name in tier})))
    return replace(base, above=tuple(tiers))


def _number(value: Any, where: str) -> Decimal:
    try:
        number = Decimal(str(value)) if not isinstance(value, bool) else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite() or number < 0:
        raise ParameterError(where, value, "is no price", "Give a number of at least 0.")
    return number


_LITELLM = {
    "prompt": "input_cost_per_token",
    "completion": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "audio_prompt": "input_cost_per_audio_token",
    "image_prompt": "input_cost_per_image_token",
    "audio_completion": "output_cost_per_audio_token",
    "reasoning": "output_cost_per_reasoning_token",
}


def _litellm_price(entry: Any) -> Price | None:
    """litellm's entry as a price; None for one that has no price by token."""
    if not isinstance(entry, Mapping) or not {_LITELLM["prompt"], _LITELLM["completion"]} <= set(entry):
        return None
    above: dict[str, dict[str, Any]] = {}
    for key, value in entry.items():
        tier = re.fullmatch(r"(.+)_above_(\d+)k_tokens", key)
        names = [name for name, known in _LITELLM.items() if tier is not None and known == tier[1]]
        if tier is not None and names and value is not None:
            above.setdefault(str(int(tier[2]) * 1000), {})[names[0]] = value
    table = {name: entry.get(known) for name, known in _LITELLM.items()}
    try:
        return _price({**table, "above": above}, Decimal(1), "litellm")
    except ParameterError:  # not our table: a model whose entry is odd has no price here
        return None
