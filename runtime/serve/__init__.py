"""The restorer as a service over HTTP with a web page: ``python -m runtime.serve`` (extra ``[serve]``).

`runtime.serve.app.create_app` gives the same as an ASGI application.
"""

from __future__ import annotations

from runtime.serve.settings import Limits, Settings

__all__ = ["Limits", "Settings"]
