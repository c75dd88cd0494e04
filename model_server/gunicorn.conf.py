"""How gunicorn serves a mock model.

gunicorn -c model_server/gunicorn.conf.py 'cheap_model.app:create_app()'
"""

import os

from model_server.config import Settings, SettingsError
from model_server.logs import LOGGING

try:
    _settings = Settings.from_env(os.environ)
except SettingsError as error:
    raise SystemExit(str(error)) from None

bind = f"{_settings.host}:{_settings.port}"
worker_class = "model_server.worker.ModelWorker"
# The ledger lives in the worker's memory: a second worker would hold another half of it.
workers = 1
worker_connections = 2000
# Long, since a client that sends a request just when its pooled connection closes sees a reset.
keepalive = 75
graceful_timeout = 10
timeout = 30
control_socket_disable = True
if os.path.isdir("/dev/shm"):  # noqa: S108  # shared memory: heartbeats must not wait for a disk
    worker_tmp_dir = "/dev/shm"  # noqa: S108
logconfig_dict = LOGGING
accesslog = None
