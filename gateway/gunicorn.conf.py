"""gunicorn's configuration. Bad settings stop the start here with one line, before any worker exists."""

import contextlib
import gc
import os
import sys

from gateway.config import Settings
from gateway.environment import InvalidSetting
from gateway.logs import logging_config
from gateway.open_files import allow_open_files, connections_wanted, connections_within, files_wanted

try:
    settings = Settings.from_env()
except InvalidSetting as error:
    sys.exit(str(error))

bind = settings.listen
workers = settings.web_concurrency
worker_class = "gateway.worker.GatewayWorker"
open_files = allow_open_files(files_wanted(settings))
worker_connections = connections_within(open_files, settings)
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108
keepalive = settings.client_keepalive
timeout = 60
graceful_timeout = settings.shutdown_timeout
control_socket_disable = True
logconfig_dict = logging_config(settings.log_level)


def on_starting(server):  # type: ignore[no-untyped-def]
    """Say so where the system does not allow what the settings promise."""
    if worker_connections < connections_wanted(settings):
        server.log.warning(
            "each worker may open %d files, but MAX_REQUESTS_IN_WORK=%d needs %d: it takes %d connections at "
            "a time instead of %d; raise the limit of open files (ulimit -n) or lower MAX_REQUESTS_IN_WORK",
            open_files,
            settings.max_requests_in_work,
            files_wanted(settings),
            worker_connections,
            connections_wanted(settings),
        )


def on_exit(server):  # type: ignore[no-untyped-def]
    """Take along what `python -m gateway` kept for workers that start later."""
    if settings.last_good_models_file is not None:
        with contextlib.suppress(OSError):
            settings.last_good_models_file.unlink(missing_ok=True)
            settings.last_good_models_file.parent.rmdir()


def post_worker_init(worker):  # type: ignore[no-untyped-def]
    """Have each worker watch the models file and the keys, and look after the ledger."""
    # What is there for good is not looked at again.
    gc.collect()
    gc.freeze()

    from gunicorn.http.unreader import SocketUnreader

    # What is read ahead of a body is counted nowhere, so it has to be little: usually up to 1 MiB.
    SocketUnreader.max_body_chunk = 65536  # type: ignore[attr-defined] # newer than the stubs
    worker.wsgi.extensions["gateway"].start()


def worker_exit(server, worker):  # type: ignore[no-untyped-def]
    """Close each worker's journal, where the worker came so far as to have one."""
    if getattr(worker, "wsgi", None) is not None:
        worker.wsgi.extensions["gateway"].ledger.stop()
