"""The page docs/providers.md: which features of which services the tests of test_matrix.py found to work."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from rigs import RIGS

from pageform.clients.table import SERVICES

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"

FEATURES = {
    "create": "a value, with the SDK's response beside it",
    "retry": "asked again with its faults, in the provider's own protocol",
    "partial": "partial objects while the answer streams, the first before the rest was sent",
    "iterable": "items of a list while it streams",
    "async": "all of that with the SDK's async client",
    "parallel": "several tools in one answer, `Iterable[A | B]`",
    "usage": "tokens of all attempts, those of streams and cached ones too",
    "errors": "the SDK's own errors, raised as they are",
}
"""Names of the tests, without `test_`, and what they show."""

_results: dict[tuple[str, str, str], bool] = defaultdict(lambda: True)
"""(service, mode, feature) → whether set-up, test and tear-down passed."""


def record(item: pytest.Item, report: pytest.TestReport) -> None:
    """Takes note of one phase of a test of the matrix."""
    if item.path.name != "test_matrix.py" or not isinstance(item, pytest.Function):
        return
    parameters = item.callspec.params
    _results[parameters["rig"].name, str(parameters["mode"]), item.function.__name__.removeprefix("test_")] &= (
        report.passed
    )


def complete() -> bool:
    """Whether all tests of the matrix ran."""
    every = {(rig.name, str(mode), name) for rig in RIGS.values() for mode in rig.modes for name in FEATURES}
    return every <= _results.keys()


def page() -> str:
    """The page as the tests of this session found it."""
    lines = [
        "# Providers",
        "",
        "What `tests/clients/test_matrix.py` found: each service's real SDK against a scripted server that speaks its",
        "wire format, every reply checked against the SDK's response types and every request against its parameter",
        "types. **T** stands for mode `tools`, **S** for `schema`, **X** for `text`; a letter that is missing does not",
        "work or does not exist there. The default mode is the first. No service was asked itself.",
        "",
        *(f"- **{name}**: {text}" for name, text in FEATURES.items()),
        "",
        f"| service | SDK | {' | '.join(FEATURES)} |",
        f"|---|---|{'---|' * len(FEATURES)}",
    ]
    for rig in RIGS.values():
        cells = [
            " ".join(_letter(str(mode)) for mode in rig.modes if _results[rig.name, str(mode), name])
            for name in FEATURES
        ]
        lines.append(f"| {rig.name} | {_sdk(rig.name)} | {' | '.join(cells)} |")
    whole = [rig.name for rig in RIGS.values() if rig.calls_at_once]
    silent = [rig.name for rig in RIGS.values() if not rig.tells_cached]
    lines += [
        "",
        f"Calls of tools stream as a whole, so that mode `tools` grows only in steps: {', '.join(whole) or 'none'}. No",
        f"count of cached tokens: {', '.join(silent) or 'none'}.",
        "",
        "`pytest tests/clients --write-providers` writes this page, and the tests fail when it is not what they found.",
    ]
    return "\n".join(lines) + "\n"


def _letter(mode: str) -> str:
    return {"tools": "T", "schema": "S", "text": "X"}[mode]


def _sdk(name: str) -> str:
    service = SERVICES.get(name) or SERVICES.get(name.partition("-")[0])
    return service.sdk.module.removesuffix(".client") if service is not None else name
