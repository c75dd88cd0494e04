"""CheapModel: quick, short and nearly free."""

import os
from decimal import Decimal

from flask import Flask

from model_server.app import create_app as create_model_app
from model_server.config import Settings
from model_server.profile import ModelProfile, Prices

PROFILE = ModelProfile(
    name="CheapModel",
    prices=Prices(input=Decimal("0.10"), cached_input=Decimal("0.025"), output=Decimal("0.40")),
    excerpt_chars=24,
    first_token_seconds=0.02,
    token_interval_seconds=0.001,
)


def create_app() -> Flask:
    """CheapModel's server, set up from the environment."""
    return create_model_app(PROFILE, Settings.from_env(os.environ))
