"""A browser for the tests of the page."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module", params=("chromium", "firefox"))
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A `tests.page.bidi.Browser`; skipped where it is not installed."""
    from tests.page.bidi import BROWSERS, missing  # needs websocket-client

    if reason := missing(request.param):
        pytest.skip(reason)
    with BROWSERS[request.param]() as one:
        yield one
