"""The closing of connections whose header never ends: uvicorn itself waits for it for ever.

Ray Serve's proxy starts uvicorn with its default protocol, but first calls a function of ours (`CALLBACK`), which
replaces the protocol.
"""

import asyncio
from typing import Any

HEADER_S = 15.0
"""The seconds from a connection's start, or from the first byte of a further request, to the end of its header."""
CALLBACK = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "medsae_ray.service.wire.bound_headers"}
"""The environment of the proxy that makes Ray Serve call `bound_headers` in it."""


def bounded(protocol: type[asyncio.Protocol], seconds: float = HEADER_S) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol (either of its two) with a bound on the time of a header.

    A body has bounds of its own (middleware.py), and an idle connection uvicorn's.
    """

    class Bounded(protocol):  # type: ignore[misc, valid-type]
        header_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_header()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:  # a header is complete
                self._stop_timer()
            else:
                self._expect_header()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _expect_header(self) -> None:
            """Start the header's time unless it runs already: single bytes do not restart it."""
            if self.header_timer is None:
                self.header_timer = self.loop.call_later(seconds, self.transport.close)

        def _stop_timer(self) -> None:
            if self.header_timer is not None:
                self.header_timer.cancel()
                self.header_timer = None

    return Bounded


def bound_headers() -> list[Any]:
    """Replace the protocol that uvicorn will choose in this process. Returns no middleware, which Serve asks for."""
    from uvicorn.protocols.http import auto

    if auto.AutoHTTPProtocol.__name__ != "Bounded":
        auto.AutoHTTPProtocol = bounded(auto.AutoHTTPProtocol)
    return []
