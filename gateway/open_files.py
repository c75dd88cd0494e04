"""How many connections a worker takes, and the open files that it needs for them.

While all slots are taken, as many clients again may hang on without one: slow bodies, idle keep-alives, those
about to be refused. Whoever asks for `/healthz` then still finds room, since a worker that is at its
`worker_connections` accepts nobody.

Nothing but the standard library is imported here, because gunicorn's configuration file uses this module.
"""

from __future__ import annotations

import resource

from gateway.config import Settings

SPARE_CONNECTIONS = 1000  # for probes, and for what comes in a burst
OWN_FILES = 256  # log, journals, listener, event loop, Redis


def connections_wanted(settings: Settings) -> int:
    """The connections of clients that each worker should take."""
    return 2 * settings.max_requests_in_work + settings.max_queued_requests + SPARE_CONNECTIONS


def files_wanted(settings: Settings) -> int:
    """The open files that these can take, with those to the providers, idle ones included."""
    return connections_wanted(settings) + 2 * settings.max_requests_in_work + OWN_FILES


def allow_open_files(wanted: int) -> int:
    """Let this process and its children open so many files, or as many as the system allows; gives the limit
    that holds then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # some systems have a further limit
        return soft
    return most


def connections_within(files: int, settings: Settings) -> int:
    """The connections of clients that each worker takes where it may open so many files."""
    share = min(1.0, files / files_wanted(settings))
    return max(1, int(connections_wanted(settings) * share))
