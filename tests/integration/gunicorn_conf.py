"""gunicorn's configuration for the WSGI application of ``web_apps``."""

from __future__ import annotations

from typing import Any


def post_worker_init(worker: Any) -> None:
    from tests.integration import web_apps

    web_apps.listen()
