"""What the environment may say, and how the gateway refuses the rest."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.circuit import CircuitRules
from gateway.config import OWN_MODELS_FILE, ModelOverride, Settings
from gateway.environment import InvalidSetting

SECRET = "sk-5ecr3t"
NOT_A_WHOLE_NUMBER = ["x", "1.5", "1e3", "-1", "+1", "0x10", "9" * 30, "१०", "1 0", "1\n2"]
NOT_A_NUMBER = ["x", "-1", "nan", "inf", "1e3", "1,5", ".5", "5.", "0", "99999", "9" * 400, "१०", "1\n2"]
NOT_A_MODEL_URL = [
    "cheap_model:8081",
    "ftp://cheap_model/v1",
    "//cheap_model/v1",
    "http://",
    "http:///v1",
    "http://[::1/v1",
    "http://cheap_model:port/v1",
    "http://cheap_model:99999/v1",
    "http://cheap model/v1",
    "http://cheap_model/v1\nX: y",
    "http://cheap_model/\x01v1",
    "\x01http://cheap_model/v1",
    "http://@cheap_model/v1",
    "http://cheap_model/v1?",
    "http://cheap_model/v1#",
    f"http://cheap_model/v1?key={SECRET}",
    f"http://cheap_model/v1#{SECRET}",
    f"http://user:{SECRET}@cheap_model/v1",
    f"http://{SECRET}@cheap_model/v1",
    f"http://user:{SECRET}@cheap_model:port/v1",
    f"user:{SECRET}@cheap_model",
]
NOT_A_REDIS_URL = [
    "redis:6379",
    "http://redis:6379",
    "redis://",
    "unix://",
    f"redis://:{SECRET}@",
    f"redis://:{SECRET}@redis:port/0",
    f"redis://:{SECRET}@redis:99999/0",
    f"http://:{SECRET}@redis:6379/0",
    f"redis://:{SECRET} {SECRET}@redis:6379/0",
    f"redis://:{SECRET}@[::1/0",
    f"redis://:{SECRET}@redis\n:6379/0",
]
NOT_A_KEY = [f"{SECRET} {SECRET}", f"{SECRET}\r\nX-Evil: 1", f"{SECRET}é", f"{SECRET}\x7f", f"{SECRET}\x00"]
NOT_A_SWITCH = ["maybe", "2", "on off", "on\noff"]
NOT_AN_ADDRESS = ["8080", "host:", ":8080", "host:port", "host:0", "host:65536", "a b:1", "::1:8080", "h:८"]

BAD_VALUES = {
    "GATEWAY_PORT": [*NOT_A_WHOLE_NUMBER, "0", "65536"],
    "ROUTING_THRESHOLD_DIFFICULTY": ["-0.1", "1.01", "a"],
    "ROUTING_THRESHOLD_CHARS": [*NOT_A_WHOLE_NUMBER, "1000000001"],
    "ROUTING_EXPLORE": [value for value in NOT_A_NUMBER if value != "0"] + ["0.51", "1"],
    "ROUTING_LOG": ["all", "off", "features\nx"],
    "ROUTING_LOG_SIZE": [*NOT_A_WHOLE_NUMBER, "1000001"],
    "WEB_CONCURRENCY": [*NOT_A_WHOLE_NUMBER, "0", "257"],
    "MAX_REQUEST_BYTES": [*NOT_A_WHOLE_NUMBER, "0", "2147483649"],
    "MAX_BODY_BYTES_IN_WORK": [*NOT_A_WHOLE_NUMBER, "0", "1099511627777"],
    "MAX_REQUESTS_IN_WORK": [*NOT_A_WHOLE_NUMBER, "0", "100001"],
    "MAX_QUEUED_REQUESTS": [*NOT_A_WHOLE_NUMBER, "100001"],
    "QUEUE_TIMEOUT_SECONDS": [*NOT_A_NUMBER, "600.1"],
    "SHUTDOWN_TIMEOUT_SECONDS": [*NOT_A_WHOLE_NUMBER, "4", "3601"],
    "CLIENT_STALL_TIMEOUT_SECONDS": [*NOT_A_WHOLE_NUMBER, "0", "3601"],
    "CLIENT_KEEPALIVE_SECONDS": [*NOT_A_WHOLE_NUMBER, "0", "3601"],
    "REDIS_TIMEOUT_SECONDS": [*NOT_A_NUMBER, "60.1"],
    "UPSTREAM_CONNECT_TIMEOUT_SECONDS": [*NOT_A_NUMBER, "600.1"],
    "UPSTREAM_READ_TIMEOUT_SECONDS": [*NOT_A_NUMBER, "3600.1"],
    "UPSTREAM_FIRST_BYTE_TIMEOUT_SECONDS": [*NOT_A_NUMBER, "3600.1"],
    "UPSTREAM_IDLE_TIMEOUT_SECONDS": [*NOT_A_NUMBER, "3600.1"],
    "REQUEST_TIMEOUT_SECONDS": [*NOT_A_NUMBER, "86400.1"],
    "UPSTREAM_RETRIES": [*NOT_A_WHOLE_NUMBER, "11"],
    "UPSTREAM_FALLBACKS": NOT_A_SWITCH,
    "UPSTREAM_HEDGING": NOT_A_SWITCH,
    "UPSTREAM_TRANSPORT": ["requests", "lean\nx", "on"],
    "MAX_REQUEST_COST_USD": ["x", "-1", "1e3", "nan", "1,50", "$5"],
    "REQUEST_BODY_TIMEOUT_SECONDS": [*NOT_A_NUMBER, "3600.1"],
    "CIRCUIT_BREAKER": NOT_A_SWITCH,
    "CIRCUIT_FAILURES": [*NOT_A_WHOLE_NUMBER, "0", "1000001"],
    "CIRCUIT_ERROR_PERCENT": [*NOT_A_WHOLE_NUMBER, "0", "101"],
    "CIRCUIT_SLOW_SECONDS": [*NOT_A_NUMBER, "3600.1"],
    "CIRCUIT_OPEN_SECONDS": [*NOT_A_NUMBER, "600.1"],
    "RETRY_BUDGET_PERCENT": [*NOT_A_WHOLE_NUMBER, "101"],
    "CHEAP_MODEL_URL": NOT_A_MODEL_URL,
    "EXPENSIVE_MODEL_URL": NOT_A_MODEL_URL,
    "REDIS_URL": NOT_A_REDIS_URL,
    "CHEAP_MODEL_API_KEY": NOT_A_KEY,
    "EXPENSIVE_MODEL_API_KEY": NOT_A_KEY,
    "LLM_GATEWAY_API_KEY": NOT_A_KEY,
    "FORWARD_MOCK_FAULTS": NOT_A_SWITCH,
    "ROUTING_POLICY": ["longest", "prompt_length\nx"],
    "CASCADE_CHECKS": ["mood", "structure,", "structure probability", "structure,judge", "structure\nx"],
    "CASCADE_MIN_MEAN_PROBABILITY": ["x", "-1", "nan", "1.1"],
    "CASCADE_MIN_TOKEN_PROBABILITY": ["x", "-1", "nan", "1.1"],
    "CASCADE_MAX_SECONDS": ["x", "-1", "nan", "86400.1"],
    "CASCADE_JUDGE_MODEL": ["Judge", "Judge\nx"],
    "LOG_LEVEL": ["loud", "info\nx"],
    "HTTP_SERVER": ["flask", "lean\nx", "on"],
    "REDIS_KEY_PREFIX": ["a b", "a:b", "a*", "é", "x" * 65, "a\nb"],
    "GATEWAY_BIND": ["a b", "a\nb", "127.0.0.1:8080", "[::1", "é", "unix:/tmp/socket"],
    "GATEWAY_LISTEN": NOT_AN_ADDRESS,
    "GATEWAY_REQUIRE_KEYS": NOT_A_SWITCH,
    "GATEWAY_ADMIN_KEY": NOT_A_KEY,
    "GATEWAY_BUDGET_USD": ["x", "-1", "1e3", "nan", "1,50", "10000000000", "$5", "0.0000000000001", "1\n2"],
    "GATEWAY_BUDGET_PERIOD": ["year", "day", "day\nx"],
    "GATEWAY_ON_BUDGET": ["refuse", "clamp\nx"],
    "BUDGET_HOLD_SECONDS": [*NOT_A_WHOLE_NUMBER, "0", "86401"],
    "BUDGET_WAIT_SECONDS": ["x", "-1", "nan", "600.1"],
    "BUDGET_MIN_OUTPUT_TOKENS": [*NOT_A_WHOLE_NUMBER, "0", "1000001"],
    "BUDGETS_WITHOUT_REDIS": ["maybe", "on"],
    "READY_WITHOUT_REDIS": NOT_A_SWITCH,
    "ROUTING_EXPENSIVE_SHARE": ["20%", "1.01", "2", "-0.1", "nan", "1e-1", ".2", "0,2", "0.2\n1", "२"],
    "ROUTING_DOLLARS_PER_DAY": ["x", "-1", "1e3", "nan", "1,50", "$5", "10000000000", "1\n2"],
}


@pytest.mark.parametrize(
    ("variable", "value"), [(variable, value) for variable, values in BAD_VALUES.items() for value in values]
)
def test_a_bad_value_is_refused_in_one_line_that_begins_with_its_variable_and_holds_no_secret(
    variable: str, value: str
) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Settings.from_env({variable: value})

    line = str(refused.value)
    assert line.startswith(f"{variable}: ")
    assert len(line.splitlines()) == 1
    assert SECRET not in line
    assert refused.value.__cause__ is None


@given(st.sampled_from(sorted(BAD_VALUES)), st.text())
def test_whatever_one_variable_holds_the_settings_are_read_or_that_variable_is_named(
    variable: str, value: str
) -> None:
    try:
        Settings.from_env({variable: value})
    except InvalidSetting as error:
        problem = str(error)
    else:
        return
    assert problem.startswith(f"{variable}: ")
    assert len(problem.splitlines()) == 1


def cheap_of(settings: Settings) -> ModelOverride:
    return settings.model_overrides[0]


def expensive_of(settings: Settings) -> ModelOverride:
    return settings.model_overrides[1]


def test_with_no_setting_at_all_the_two_mock_models_serve() -> None:
    settings = Settings.from_env({})

    for override in settings.model_overrides:
        assert (override.url, override.upstream_name, override.api_key) == (None, None, None)
    assert settings.models_file == OWN_MODELS_FILE
    assert settings.models_file.is_file()
    assert settings.routing_policy == "prompt_length"
    assert settings.routing_threshold_chars == 150
    assert (settings.routing_explore, settings.routing_log_size) == (0, 10_000)
    assert settings.routing_log == "decisions"
    assert settings.redis_url == "redis://redis:6379/0"
    assert settings.redis_key_prefix == "gateway"
    assert settings.circuit_rules == CircuitRules()
    assert settings.retry_budget_percent == 20
    assert settings.web_concurrency == 2
    assert settings.listen == "127.0.0.1:8080"
    assert settings.forward_mock_faults is False


@pytest.mark.parametrize("empty", ["", " ", "\t\n"])
def test_an_empty_variable_counts_as_not_set(empty: str) -> None:
    variables = [*BAD_VALUES, "MODELS_FILE", "CHEAP_MODEL_NAME", "EXPENSIVE_MODEL_NAME"]
    assert Settings.from_env(dict.fromkeys(variables, empty)) == Settings.from_env({})


def test_exploring_without_a_memory_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"^ROUTING_EXPLORE: "):
        Settings.from_env({"ROUTING_EXPLORE": "0.02", "ROUTING_LOG_SIZE": "0"})
    assert Settings.from_env({"ROUTING_EXPLORE": "0.02", "ROUTING_LOG_SIZE": "1"}).routing_explore == 0.02


def test_every_variable_is_read() -> None:
    settings = Settings.from_env(
        {
            "CHEAP_MODEL_URL": "https://api.openai.com/v1/",
            "CHEAP_MODEL_NAME": "gpt-5-mini",
            "EXPENSIVE_MODEL_URL": "http://[::1]:8000/@x/v1",
            "MODELS_FILE": "models/mine.toml",
            "ROUTING_POLICY": "cascade",
            "ROUTING_THRESHOLD_CHARS": "0",
            "ROUTING_THRESHOLD_DIFFICULTY": "0.25",
            "ROUTING_EXPENSIVE_SHARE": "0.2",
            "ROUTING_EXPLORE": "0.02",
            "ROUTING_LOG": "features",
            "ROUTING_LOG_SIZE": "500",
            "CASCADE_CHECKS": "Judge, structure",
            "CASCADE_MIN_MEAN_PROBABILITY": "0.5",
            "CASCADE_MIN_TOKEN_PROBABILITY": "0.25",
            "CASCADE_MAX_SECONDS": "7",
            "CASCADE_JUDGE_MODEL": "ExpensiveModel",
            "REDIS_URL": f"rediss://user:{SECRET}@redis.example:6380/1",
            "REDIS_KEY_PREFIX": "{gateway}",
            "REDIS_TIMEOUT_SECONDS": "0.25",
            "WEB_CONCURRENCY": " 4 ",
            "GATEWAY_BIND": "0.0.0.0",
            "GATEWAY_PORT": "9080",
            "UPSTREAM_CONNECT_TIMEOUT_SECONDS": "1",
            "UPSTREAM_READ_TIMEOUT_SECONDS": "2.5",
            "CIRCUIT_BREAKER": "off",
            "CIRCUIT_FAILURES": "3",
            "CIRCUIT_ERROR_PERCENT": "100",
            "CIRCUIT_SLOW_SECONDS": "7.5",
            "CIRCUIT_OPEN_SECONDS": "0.5",
            "RETRY_BUDGET_PERCENT": "0",
            "REQUEST_BODY_TIMEOUT_SECONDS": "3",
            "MAX_REQUEST_BYTES": "1000",
            "MAX_BODY_BYTES_IN_WORK": "5000",
            "MAX_REQUESTS_IN_WORK": "7",
            "MAX_QUEUED_REQUESTS": "0",
            "QUEUE_TIMEOUT_SECONDS": "0.5",
            "SHUTDOWN_TIMEOUT_SECONDS": "10",
            "FORWARD_MOCK_FAULTS": "on",
            "HTTP_SERVER": "gunicorn",
            "LOG_LEVEL": "debug",
        }
    )

    assert cheap_of(settings).url == "https://api.openai.com/v1"
    assert cheap_of(settings).upstream_name == "gpt-5-mini"
    assert expensive_of(settings).url == "http://[::1]:8000/@x/v1"
    assert expensive_of(settings).upstream_name is None
    assert settings.models_file == Path("models/mine.toml")
    assert settings.routing_threshold_chars == 0
    assert settings.routing_expensive_share == 0.2
    assert settings.routing_explore == 0.02
    assert settings.routing_log == "features"
    assert settings.routing_log_size == 500
    assert settings.redis_url == f"rediss://user:{SECRET}@redis.example:6380/1"
    assert settings.redis_key_prefix == "{gateway}"
    assert settings.redis_timeout == 0.25
    assert settings.web_concurrency == 4
    assert settings.http_server == "gunicorn"
    assert settings.listen == "0.0.0.0:9080"
    assert settings.upstream_connect_timeout == 1
    assert settings.upstream_read_timeout == 2.5
    assert settings.circuit_rules == CircuitRules(False, 3, 100, 7.5, 0.5)
    assert settings.retry_budget_percent == 0
    assert settings.request_body_timeout == 3
    assert settings.max_request_bytes == 1000
    assert settings.max_body_bytes_in_work == 5000
    assert settings.max_requests_in_work == 7
    assert settings.max_queued_requests == 0
    assert settings.queue_timeout == 0.5
    assert settings.shutdown_timeout == 10
    assert settings.forward_mock_faults is True
    assert settings.log_level == "debug"


def test_a_days_dollars_are_exact_and_stand_in_the_place_of_a_share() -> None:
    settings = Settings.from_env({"ROUTING_DOLLARS_PER_DAY": "30.10"})
    assert settings.routing_dollars_per_day == Decimal("30.10")
    assert settings.routing_expensive_share is None
    with pytest.raises(InvalidSetting, match=r"^ROUTING_DOLLARS_PER_DAY: .*ROUTING_EXPENSIVE_SHARE"):
        Settings.from_env({"ROUTING_DOLLARS_PER_DAY": "30", "ROUTING_EXPENSIVE_SHARE": "0.2"})


@pytest.mark.parametrize("share", ["0", "1", "0.0", "1.000", "0.123456789"])
def test_a_share_is_any_number_from_nothing_to_all(share: str) -> None:
    assert Settings.from_env({"ROUTING_EXPENSIVE_SHARE": share}).routing_expensive_share == float(share)


def test_the_environment_of_the_process_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTING_THRESHOLD_CHARS", "77")
    assert Settings.from_env().routing_threshold_chars == 77


@pytest.mark.parametrize(
    ("value", "switched"),
    [
        *((value, True) for value in ("1", "on", "TRUE", "Yes")),
        *((value, False) for value in ("0", "off", "False", "NO")),
    ],
)
def test_a_switch_is_read_in_any_of_its_spellings(value: str, switched: bool) -> None:
    assert Settings.from_env({"FORWARD_MOCK_FAULTS": value}).forward_mock_faults is switched


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h:1/2?protocol=3", "rediss://u:p@h:1/0", "unix:///run/redis.sock"]
)
def test_any_redis_address_is_taken_as_it_stands(url: str) -> None:
    assert Settings.from_env({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    ("bind", "listen"),
    [
        ("127.0.0.1", "127.0.0.1:8080"),
        ("localhost", "localhost:8080"),
        ("::1", "[::1]:8080"),
        ("[::1]", "[::1]:8080"),
    ],
)
def test_a_provider_key_is_served_on_loopback_addresses(bind: str, listen: str) -> None:
    settings = Settings.from_env({"LLM_GATEWAY_API_KEY": SECRET, "GATEWAY_BIND": bind})
    assert settings.listen == listen


@pytest.mark.parametrize(
    "variable", ["LLM_GATEWAY_API_KEY", "CHEAP_MODEL_API_KEY", "EXPENSIVE_MODEL_API_KEY"]
)
@pytest.mark.parametrize(
    "bind",
    ["0.0.0.0", "::", "[::]", "192.168.0.1", "gateway.example", "localhost.example", "127.0.0.1.example"],
)
def test_a_provider_key_is_not_served_to_the_network(variable: str, bind: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^GATEWAY_BIND: refusing") as refused:
        Settings.from_env({variable: SECRET, "GATEWAY_BIND": bind})
    assert SECRET not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_without_a_provider_key_any_address_is_served() -> None:
    assert Settings.from_env({"GATEWAY_BIND": "0.0.0.0"}).listen == "0.0.0.0:8080"
    assert Settings.from_env({"GATEWAY_BIND": "::"}).listen == "[::]:8080"
    assert Settings.from_env({"GATEWAY_LISTEN": "[::]:80", "GATEWAY_PORT": "9"}).listen == "[::]:80"


def test_a_model_without_a_key_of_its_own_uses_the_shared_one() -> None:
    settings = Settings.from_env({"LLM_GATEWAY_API_KEY": "shared", "EXPENSIVE_MODEL_API_KEY": "its-own"})
    assert cheap_of(settings).api_key == "shared"
    assert expensive_of(settings).api_key == "its-own"


def test_a_model_s_own_key_leaves_the_other_model_without_one() -> None:
    settings = Settings.from_env({"CHEAP_MODEL_API_KEY": "its-own"})
    assert cheap_of(settings).api_key == "its-own"
    assert expensive_of(settings).api_key is None


def test_the_settings_in_a_log_show_no_key_and_no_password() -> None:
    settings = Settings.from_env(
        {
            "CHEAP_MODEL_API_KEY": SECRET,
            "LLM_GATEWAY_API_KEY": SECRET,
            "REDIS_URL": f"redis://:{SECRET}@redis:6379/0",
        }
    )
    assert expensive_of(settings).api_key == SECRET
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


def test_a_providers_key_is_not_listened_to_from_the_network_without_saying_who_can_reach_it() -> None:
    keyed = {"LLM_GATEWAY_API_KEY": SECRET, "GATEWAY_LISTEN": "0.0.0.0:8080"}
    with pytest.raises(InvalidSetting, match=r"^GATEWAY_BIND: "):
        Settings.from_env(keyed)
    assert Settings.from_env(keyed | {"GATEWAY_BIND": "127.0.0.1"}).listen == "0.0.0.0:8080"


def test_there_is_room_for_the_largest_body() -> None:
    large = {"MAX_REQUEST_BYTES": str(2**30)}
    assert Settings.from_env(large).max_body_bytes_in_work == 2**30
    with pytest.raises(InvalidSetting, match=r"^MAX_BODY_BYTES_IN_WORK: "):
        Settings.from_env(large | {"MAX_BODY_BYTES_IN_WORK": str(2**30 - 1)})


def test_docker_compose_passes_every_setting_on() -> None:
    root = Path(__file__).parents[2]
    read = set(re.findall(r'"([A-Z]+_[A-Z_]+)"', (root / "gateway" / "config.py").read_text()))
    read |= {
        f"{model}_{name}"
        for model in ("CHEAP_MODEL", "EXPENSIVE_MODEL")
        for name in ("URL", "NAME", "API_KEY")
    }
    read -= {"CHEAP_MODEL", "EXPENSIVE_MODEL", "GATEWAY_LISTEN", "GATEWAY_PORT", "LAST_GOOD_MODELS_FILE"}
    passed = set(re.findall(r"^      - ([A-Z_]+)", (root / "docker-compose.yml").read_text(), re.MULTILINE))
    keys = {name for name in passed - read if name.endswith("_API_KEY")}
    assert read == passed - keys
    documented = (root / "docs" / "settings.md").read_text()
    assert [name for name in keys if f"`{name}`" not in documented] == []
