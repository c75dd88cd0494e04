"""The application as `flask` loads it, with the gateway's commands."""

from __future__ import annotations

from flask import Flask
from flask.cli import NoAppException

from gateway import app
from gateway.commands import models_commands
from gateway.environment import InvalidSetting
from gateway.feedback_commands import feedback_commands
from gateway.keys.commands import keys_commands
from gateway.router_commands import router_commands
from gateway.routing.commands import route_command


def create_app() -> Flask:
    """
    :raises NoAppException: for a bad setting, in the one line that names it
    """
    try:
        created = app.create_app()
    except InvalidSetting as error:
        raise NoAppException(str(error)) from error
    created.cli.add_command(models_commands)
    created.cli.add_command(keys_commands)
    created.cli.add_command(feedback_commands)
    created.cli.add_command(router_commands)
    created.cli.add_command(route_command)
    return created
