"""The served description of the admin routes against a gateway that has them."""

from __future__ import annotations

from typing import Any

import pytest
from schemathesis.generation.case import Case

from tests.conftest import GatewayUnderTest, StartGateway
from tests.integration.test_openapi import CHECKS_OF_TRANSLATIONS, schema

pytestmark = pytest.mark.heavy

ADMIN = "admin-0123456789"


@pytest.fixture(scope="module")
def admin_gateway(start_gateway: StartGateway) -> GatewayUnderTest:
    return start_gateway(GATEWAY_ADMIN_KEY=ADMIN)


# No schema can say which models there are, which times are to come and which characters can be printed, so
# that what it allows may be refused.
@pytest.mark.heavy
@schema.exclude(lambda context: not context.operation.path.startswith("/admin/")).parametrize()
def test_every_answer_to_an_admin_is_as_the_document_says(
    case: Case[Any], admin_gateway: GatewayUnderTest
) -> None:
    case.call_and_validate(
        base_url=admin_gateway.gateway_url,
        headers={"Authorization": f"Bearer {ADMIN}"},
        checks=CHECKS_OF_TRANSLATIONS,
        timeout=10,
    )
