"""Starts the gateway: `python -m gateway` checks the settings and becomes the master.

gunicorn reads WEB_CONCURRENCY before its configuration file and fails with a traceback where it is no
number, so the settings are checked first.
"""

import contextlib
import logging.config
import os
import sys
import tempfile
from pathlib import Path

from gateway.catalog_watch import keep_models_file, log_catalog
from gateway.config import Settings
from gateway.environment import InvalidSetting
from gateway.ledger.connection import connect
from gateway.logs import logging_config
from gateway.models_file import parse_catalog, read_models_file


def main() -> None:
    try:
        settings = Settings.from_env()
        models = read_models_file(settings)
        catalog = parse_catalog(models, settings)
        connect(settings.redis_url, settings.redis_timeout)
    except InvalidSetting as error:
        sys.exit(f"llm-gateway: {error}")
    logging.config.dictConfig(logging_config(settings.log_level))
    log_catalog(catalog, "model")
    os.environ.pop("LAST_GOOD_MODELS_FILE", None)
    with contextlib.suppress(OSError):  # where nothing can be written, later workers need a good file
        kept = Path(tempfile.mkdtemp(prefix="llm-gateway-")) / "models.toml"
        keep_models_file(models, kept)
        os.environ["LAST_GOOD_MODELS_FILE"] = str(kept)
    config = Path(__file__).with_name("gunicorn.conf.py")
    command = [sys.executable, "-m", "gateway.master", "-c", str(config), "gateway.app:create_app()"]
    os.execv(sys.executable, command)  # noqa: S606 - becoming the master is the point


if __name__ == "__main__":
    main()
