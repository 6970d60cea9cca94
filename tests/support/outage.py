"""An S3 server of our own, and a door before it that can be shut: what comes while it is shut is answered with 503."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

SETTINGS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Door:
    """A door of bytes: open, they go through as they are; shut, connections are cut and new ones are answered 503."""

    def __init__(self, port: int) -> None:
        self.behind, self.shut, self.refused = port, threading.Event(), 0
        self.through: set[socket.socket] = set()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def away(self, seconds: float) -> threading.Timer:
        """Shut for so long."""
        self.shut.set()
        for end in list(self.through):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        timer = threading.Timer(seconds, self.shut.clear)
        timer.daemon = True
        timer.start()
        return timer

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                came, _ = self.listener.accept()
                act = self._refuse if self.shut.is_set() else self._let
                threading.Thread(target=act, args=(came,), daemon=True).start()

    def _refuse(self, came: socket.socket) -> None:
        self.refused += 1
        with came, contextlib.suppress(OSError):
            came.settimeout(5)
            came.recv(65536)
            came.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def _let(self, came: socket.socket) -> None:
        with contextlib.suppress(OSError), came, socket.create_connection(("127.0.0.1", self.behind)) as behind:
            self.through |= {came, behind}
            back = threading.Thread(target=self._pump, args=(behind, came))
            back.start()
            self._pump(came, behind)
            back.join()
            self.through -= {came, behind}

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def store(bucket: str = "archive", versions: bool = False) -> Iterator[Door]:
    """A moto server with a bucket, of which every version of an object is kept if `versions`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("s3_server.py")), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    door = Door(port)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        client = client_of(f"http://127.0.0.1:{port}")
        client.create_bucket(Bucket=bucket)
        if versions:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        yield door
    finally:
        door.listener.close()
        server.kill()
        server.wait()


def client_of(url: str):  # type: ignore[no-untyped-def]
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )


def settings(door: Door) -> dict[str, str]:
    """The environment in which this store is S3."""
    return {**os.environ, **SETTINGS, "AWS_ENDPOINT_URL": door.url}
