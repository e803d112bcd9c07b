"""Wide objects on an engine's path from tokens to partial objects: one a field, at a cost that does not grow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import wide
from pageform import Engine, FieldClosed


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with wide.make_engine(tmp_path_factory.mktemp("wide"), 100_000) as made:
        yield made


@pytest.mark.parametrize("size", [200, pytest.param(5_000, marks=pytest.mark.slow)])
def test_there_is_one_partial_object_a_field(engine: Engine, size: int) -> None:
    model, text = wide.wide(size), wide.answer(size)
    expected = model.model_validate_json(text)
    fields = wide.stream(engine, model, text, partials="fields")
    assert fields.shown == size
    assert fields.last == expected
    stable = wide.stream(engine, model, text, stable=True)
    assert stable.shown in (size, size + 1), "perhaps one more for the opening brace"
    assert stable.last == expected


def test_growing_text_is_shown_too(engine: Engine) -> None:
    model, text = wide.wide(200), wide.answer(200)
    assert wide.stream(engine, model, text).shown > 250
    events = wide.stream(engine, model, text, events=True)
    assert isinstance(events.last, FieldClosed)
    assert events.shown > 400


@pytest.mark.slow
@pytest.mark.parametrize("shown", [{}, {"partials": "fields"}, {"stable": True}, {"events": True}])
def test_a_token_costs_the_same_at_the_end_and_in_a_wide_object(engine: Engine, shown: dict[str, object]) -> None:
    """The best of a few runs of each tenth of the answer: the machine has other work."""
    best: dict[int, list[float]] = {}
    for size in (500, 5_000):
        model, text = wide.wide(size), wide.answer(size)
        runs = [wide.stream(engine, model, text, **shown).seconds for _ in range(2)]
        best[size] = [min(part) for part in zip(*runs, strict=True)]
    parts = best[5_000]
    assert sum(parts[-3:]) <= 1.6 * sum(parts[:3])
    assert min(parts) <= 2 * min(best[500])
