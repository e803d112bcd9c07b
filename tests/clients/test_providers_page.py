"""docs/providers.md is what the tests of the matrix found in this very session (conftest.py lets this one run last)."""

from __future__ import annotations

import providers_page
import pytest


def test_the_page_says_what_the_tests_found(pytestconfig: pytest.Config) -> None:
    if not providers_page.complete():
        pytest.skip("only the whole of test_matrix.py tells")
    if pytestconfig.getoption("--write-providers"):
        providers_page.PAGE.write_text(providers_page.page(), encoding="utf-8")
    written = providers_page.PAGE.read_text(encoding="utf-8") if providers_page.PAGE.exists() else ""
    assert written == providers_page.page(), "run: pytest tests/clients --write-providers"
