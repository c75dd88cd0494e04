"""ExpensiveModel: slower, wordier and dearer."""

import os
from decimal import Decimal

from flask import Flask

from model_server.app import create_app as create_model_app
from model_server.config import Settings
from model_server.profile import ModelProfile, Prices

PROFILE = ModelProfile(
    name="ExpensiveModel",
    prices=Prices(input=Decimal("1.00"), cached_input=Decimal("0.10"), output=Decimal("5.00")),
    excerpt_chars=92,
    first_token_seconds=0.2,
    token_interval_seconds=0.004,
)


def create_app() -> Flask:
    """ExpensiveModel's server, set up from the environment."""
    return create_model_app(PROFILE, Settings.from_env(os.environ))
