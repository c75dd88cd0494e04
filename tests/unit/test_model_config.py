"""The settings of a mock."""

import pytest

from cheap_model.app import PROFILE as CHEAP
from expensive_model.app import PROFILE as EXPENSIVE
from model_server.config import Settings, SettingsError


def test_an_empty_environment_leaves_everything_to_the_profile() -> None:
    settings = Settings.from_env({"PORT": "", "FIRST_TOKEN_SECONDS": " "})
    assert settings == Settings()
    assert settings.port == 8081
    assert settings.latency(CHEAP) == (0.02, 0.001)
    assert settings.latency(EXPENSIVE) == (0.2, 0.004)


def test_the_environment_wins_over_the_profile_even_with_zero() -> None:
    environ = {"PORT": "8082", "FIRST_TOKEN_SECONDS": "0", "TOKEN_INTERVAL_SECONDS": "0.5"}
    settings = Settings.from_env(environ)
    assert settings.port == 8082
    assert settings.latency(EXPENSIVE) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("PORT", "²"),
        ("FIRST_TOKEN_SECONDS", "soon"),
        ("FIRST_TOKEN_SECONDS", "-1"),
        ("TOKEN_INTERVAL_SECONDS", "nan"),
        ("TOKEN_INTERVAL_SECONDS", "inf"),
    ],
)
def test_an_unusable_setting_is_named_on_one_line(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({name: value})
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)
