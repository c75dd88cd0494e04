"""A budget holds: never overspent, and nobody is refused while it affords more than one request."""

from __future__ import annotations

import uuid

import pytest

from tests.conftest import StartGateway
from tests.support.spending import ADMIN_KEY, BUDGET_USD, CENT_OF_A_CENT, create_key, spend


@pytest.mark.timeout(300)
def test_64_clients_of_two_gateways_spend_one_budget_to_its_end_and_no_further(
    start_gateway: StartGateway,
) -> None:
    prefix = f"test-{uuid.uuid4().hex}"
    settings = {"REDIS_KEY_PREFIX": prefix, "GATEWAY_ADMIN_KEY": ADMIN_KEY, "WEB_CONCURRENCY": "2"}
    first, second = start_gateway(**settings), start_gateway(**settings)
    _, headers = create_key(first.gateway_url, budget_usd=str(BUDGET_USD))

    spending = spend(first, [first.gateway_url, second.gateway_url], headers)

    print(spending.result, spending.spent)
    assert spending.spent <= BUDGET_USD + CENT_OF_A_CENT
    assert spending.spent >= BUDGET_USD * 97 / 100
    assert spending.refusals_too_early() == []
    assert set(spending.result.statuses) == {200, 429}
