"""What a client gets for a well-formed request, and what is counted for it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import requests

from tests.conftest import GatewayUnderTest, StartGateway
from tests.support.processes import Service, running_model
from tests.support.recorder import recording_provider
from tests.support.stack import LONG, ONE_CALL, SHORT
from tests.support.waiting import eventually

SETTINGS = ONE_CALL

FAULT = "X-Mock-Fault"


@pytest.fixture(scope="module")
def faulty(start_gateway: StartGateway) -> GatewayUnderTest:
    """A gateway that passes faults on to the mock models and gives up on them soon."""
    return start_gateway(FORWARD_MOCK_FAULTS="on", UPSTREAM_READ_TIMEOUT_SECONDS="1")


def error_of(answer: requests.Response) -> tuple[int, str | None]:
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    return answer.status_code, answer.json()["error"]["code"]


def test_two_calls_of_a_fresh_stack_cost_exactly_what_the_prices_say(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    assert gateway.chat(SHORT).status_code == 200
    assert gateway.chat(LONG).status_code == 200

    answer = requests.get(f"{gateway.gateway_url}/metrics", timeout=5)

    assert answer.json() == {
        "totalRequests": 2,
        "totalCostUsd": 0.000185,
        "modelUsageCount": {"CheapModel": 1, "ExpensiveModel": 1},
    }
    assert '"totalCostUsd": 0.000185,' in answer.text
    assert gateway.counters() == {
        "requests": "2",
        "cost_usd": "0.000185",
        "baseline_cost_usd": "0.000239",
        "model:CheapModel:requests": "1",
        "model:CheapModel:cost_usd": "0.000005",
        "model:CheapModel:input_tokens": "14",
        "model:CheapModel:output_tokens": "9",
        "model:CheapModel:cached_input_tokens": "0",
        "model:CheapModel:errors": "0",
        "model:ExpensiveModel:requests": "1",
        "model:ExpensiveModel:cost_usd": "0.00018",
        "model:ExpensiveModel:input_tokens": "45",
        "model:ExpensiveModel:output_tokens": "27",
        "model:ExpensiveModel:cached_input_tokens": "0",
        "model:ExpensiveModel:errors": "0",
    }


def test_metrics_of_a_stack_without_requests_name_every_model(start_gateway: StartGateway) -> None:
    assert start_gateway().metrics() == {
        "totalRequests": 0,
        "totalCostUsd": 0,
        "modelUsageCount": {"CheapModel": 0, "ExpensiveModel": 0},
    }


def test_an_answer_says_how_it_came_about(gateway: GatewayUnderTest) -> None:
    answer = gateway.post(
        {"messages": [{"role": "user", "content": SHORT}]}, headers={"X-Request-Id": "order-66"}
    )

    assert answer.headers["X-Request-Id"] == "order-66"
    assert answer.headers["X-Gateway-Model"] == "CheapModel"
    assert answer.headers["X-Gateway-Policy"] == "prompt_length"
    assert answer.headers["X-Gateway-Reason"] == "30 characters, at most 150"
    attempt = re.fullmatch(
        r"CheapModel;status=200;duration_ms=(\d+\.\d);cost_usd=(\S+)", answer.headers["X-Gateway-Attempts"]
    )
    assert attempt is not None
    assert 0 < float(attempt[1]) < 5000
    assert attempt[2] == answer.headers["X-Gateway-Cost-Usd"]
    assert answer.headers["X-Gateway-Cost-Usd"] == "0.000005"


@pytest.mark.parametrize("name", ["CheapModel", "ExpensiveModel"])
def test_a_model_that_the_client_names_answers_whatever_the_length(
    gateway: GatewayUnderTest, name: str
) -> None:
    answer = gateway.chat(SHORT, model=name)
    assert answer.json()["model"] == answer.headers["X-Gateway-Model"] == name


@pytest.mark.parametrize("model", ["auto", None])
def test_auto_leaves_the_choice_to_the_policy(gateway: GatewayUnderTest, model: str | None) -> None:
    assert gateway.chat(LONG, model=model).headers["X-Gateway-Model"] == "ExpensiveModel"


def test_models_are_listed_with_auto(gateway: GatewayUnderTest) -> None:
    listed = requests.get(f"{gateway.gateway_url}/v1/models", timeout=5).json()
    assert [model["id"] for model in listed["data"]] == ["auto", "CheapModel", "ExpensiveModel"]
    for model in listed["data"]:
        one = requests.get(f"{gateway.gateway_url}/v1/models/{model['id']}", timeout=5)
        assert one.json() == model


def test_an_unknown_model_is_listed_nowhere(gateway: GatewayUnderTest) -> None:
    answer = requests.get(f"{gateway.gateway_url}/v1/models/gpt-9", timeout=5)
    assert error_of(answer) == (404, "model_not_found")


def test_unknown_parameters_reach_the_provider(gateway: GatewayUnderTest) -> None:
    # The mock refuses a temperature above 2, which the gateway itself does not look at.
    answer = gateway.chat(SHORT, temperature=3)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "temperature"


def test_a_refusal_of_the_provider_is_counted_apart(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    assert gateway.chat(SHORT, temperature=3).status_code == 400
    assert gateway.metrics()["totalRequests"] == 0
    assert gateway.counters()["model:CheapModel:errors"] == "1"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status=500", 502, "upstream_error"),
        ("status=503", 502, "upstream_error"),
        ("connect_reset", 502, "upstream_error"),
        ("stall_before_first_byte", 504, "upstream_timeout"),
    ],
)
def test_a_provider_that_fails_gives_an_error_and_no_count(
    faulty: GatewayUnderTest, fault: str, status: int, code: str
) -> None:
    before, counted = faulty.counters(), faulty.counted("CheapModel")

    answer = faulty.post({"messages": [{"role": "user", "content": SHORT}]}, headers={FAULT: fault})

    assert error_of(answer) == (status, code)
    assert "127.0.0.1" not in answer.text
    errors = "model:CheapModel:errors"
    after = faulty.counters()
    assert int(after.pop(errors)) == int(before.pop(errors, "0")) + 1
    assert {name: value for name, value in after.items() if value != "0"} == {
        name: value for name, value in before.items() if value != "0"
    }
    if fault.startswith("slow"):  # this one bills the prompt, once it has noticed that nobody waits
        assert eventually(lambda: faulty.counted("CheapModel") != counted, 10)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("malformed_json", 502, "upstream_error"),
        ("cut_midstream", 502, "upstream_error"),
        ("stall_midstream", 504, "upstream_timeout"),
        ("slow=2", 504, "upstream_timeout"),  # nobody waits for it, but its prompt is paid for
    ],
)
def test_a_provider_whose_answer_breaks_off_gives_an_error_and_is_paid_all_the_same(
    faulty: GatewayUnderTest, fault: str, status: int, code: str
) -> None:
    counters, billed = faulty.counters(), faulty.billed("CheapModel")
    counted, errors = faulty.counted("CheapModel"), "model:CheapModel:errors"

    answer = faulty.post({"messages": [{"role": "user", "content": SHORT}]}, headers={FAULT: fault})

    assert error_of(answer) == (status, code)
    assert int(faulty.counters()[errors]) == int(counters.get(errors, "0")) + 1
    # A provider that has stalled notices only in a moment that nobody listens any more, and then has a bill.
    assert eventually(lambda: faulty.counted("CheapModel") != counted, 5)
    cost = faulty.billed("CheapModel") - billed
    paid = faulty.counted("CheapModel") - counted
    assert paid.calls == 0
    assert (paid.input_tokens, paid.output_tokens) == (cost.input_tokens, cost.output_tokens)
    assert paid.cost_usd == cost.cost_usd > 0


def test_a_rate_limit_of_the_provider_is_passed_on_with_its_retry_after(faulty: GatewayUnderTest) -> None:
    answer = faulty.post(
        {"messages": [{"role": "user", "content": SHORT}]}, headers={FAULT: "status=429,retry_after=7"}
    )
    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "7"
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_faults_are_not_passed_on_by_default(gateway: GatewayUnderTest) -> None:
    answer = gateway.post({"messages": [{"role": "user", "content": SHORT}]}, headers={FAULT: "status=503"})
    assert answer.status_code == 200


@pytest.fixture(scope="module")
def stopped_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_model("cheap_model", tmp_path_factory.mktemp("stopped")) as service:
        service.stop()
        yield service


def test_a_provider_that_is_not_there_is_a_bad_gateway(
    start_gateway: StartGateway, stopped_model: Service
) -> None:
    gateway = start_gateway(CHEAP_MODEL_URL=f"{stopped_model.url}/v1")
    answer = gateway.chat(SHORT)
    assert error_of(answer) == (502, "upstream_error")
    assert gateway.chat(LONG).status_code == 200


def test_the_provider_gets_its_own_key_and_never_the_clients(
    start_gateway: StartGateway,
) -> None:
    with recording_provider() as provider:
        gateway = start_gateway(
            CHEAP_MODEL_URL=f"{provider.url}/v1", CHEAP_MODEL_API_KEY="sk-provider-canary"
        )
        answer = gateway.post(
            {"messages": [{"role": "user", "content": SHORT}], "user": "u-1"},
            headers={
                "Authorization": "Bearer sk-client-canary",
                "Cookie": "a=b",
                "X-Api-Key": "sk-client-canary",
            },
        )
    assert answer.status_code == 200
    (request,) = provider.requests
    assert request.headers["Authorization"] == "Bearer sk-provider-canary"
    assert "canary" not in str({k: v for k, v in request.headers.items() if k != "Authorization"})
    assert "Cookie" not in request.headers
    assert "sk-provider-canary" not in answer.text + str(answer.headers)
    assert "canary" not in gateway.service.log


def test_the_body_reaches_the_provider_byte_for_byte_but_for_the_model(start_gateway: StartGateway) -> None:
    body = (
        '{ "messages" : [{"role":"user","content":"caf\\u00e9 \\ud83d\\ude00 e\u0301 日本"}],\n'
        ' "temperature":1.0e0, "seed": 12345678901234567890,'
        ' "x_future": {"deep":[1,2.50,null]}, "model": "auto" }'
    )
    with recording_provider() as provider:
        gateway = start_gateway(CHEAP_MODEL_URL=f"{provider.url}/v1", CHEAP_MODEL_NAME="gpt-5-mini")
        answer = requests.post(f"{gateway.gateway_url}/v1/chat/completions", data=body.encode(), timeout=10)
    assert answer.status_code == 200
    assert provider.requests[0].body == body.replace('"auto"', '"gpt-5-mini"').encode()


def test_a_named_model_of_a_provider_costs_its_published_price(start_gateway: StartGateway) -> None:
    with recording_provider(prompt_tokens=1_000, cached_tokens=200, completion_tokens=100) as provider:
        gateway = start_gateway(CHEAP_MODEL_URL=f"{provider.url}/v1", CHEAP_MODEL_NAME="gpt-5-mini")
        answer = gateway.chat(SHORT)
    # 800 x 0.25 + 200 x 0.025 + 100 x 2.00 USD per million tokens
    assert answer.headers["X-Gateway-Cost-Usd"] == "0.000405"
    assert gateway.metrics()["totalCostUsd"] == 0.000405


def test_a_web_page_of_another_site_cannot_spend_money(gateway: GatewayUnderTest) -> None:
    before = gateway.counters()
    answer = gateway.post(
        {"messages": [{"role": "user", "content": SHORT}]}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert error_of(answer) == (403, "cross_site_request")
    link = requests.get(f"{gateway.gateway_url}/metrics", headers={"Sec-Fetch-Site": "cross-site"}, timeout=5)
    assert link.status_code == 200
    assert gateway.counters() == before


def test_no_call_is_no_attempt(gateway: GatewayUnderTest) -> None:
    assert "X-Gateway-Attempts" not in gateway.chat(SHORT, model="gpt-9").headers
