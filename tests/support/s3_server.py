"""moto's S3 server, with conditional PUTs one at a time: it asks and then writes, which S3 does in one step."""

import sys
import threading
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


class Server:
    def __init__(self) -> None:
        self.app, self.one = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("HTTP_IF_NONE_MATCH") != "*":
            return self.app(environ, start_response)
        with self.one:
            return self.app(environ, start_response)


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), Server(), threaded=True)
