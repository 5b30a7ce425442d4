"""A C2SP cosigner as a process of its own: `python -m tests.cosigner FOLDER NAME PORT`.

FOLDER holds `key` (the 32 bytes of the Ed25519 private key), `settings.json` (read anew for every request: `logs`, a
list of vkeys; `time`, POSIX seconds or null for the machine's clock; `misbehaves`, a name of misbehaviour.py or
null), `state.json` (latest checkpoints) and `requests` (one JSON line for each request answered).
It listens on a loopback port, 0 for any, says the port in one line on standard output, and answers below /NAME.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.cosigner.cosigner import Answer, Cosigner, State
from tests.cosigner.misbehaviour import MISBEHAVIOURS, hang
from tests.cosigner.note import VerifierKey

LONGEST_BODY = 2**20
FOLLOWED = "followed"


class Server(ThreadingHTTPServer):
    """Serves one cosigner; requests that reach its state do so one by one."""

    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking the resolver for a name of the address, as HTTPServer would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def __init__(self, folder: Path, name: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.folder = folder
        self.path = f"/{name}/add-checkpoint"
        key = Ed25519PrivateKey.from_private_bytes((folder / "key").read_bytes())
        self.cosigner = Cosigner(name, key, State(folder / "state.json"))
        self.one = threading.Lock()

    def answer(self, body: bytes, *, followed: bool) -> Answer:
        """Answer a request as the settings say. followed: it comes from where a redirection leads."""
        settings = json.loads((self.folder / "settings.json").read_text())
        logs = [VerifierKey.parse(vkey) for vkey in settings["logs"]]
        now = int(time.time()) if settings["time"] is None else settings["time"]
        misbehaves = settings["misbehaves"]
        if misbehaves == "hangs":
            hang(self.folder / "settings.json", misbehaves)
            return Answer(503)
        if misbehaves == "redirects" and not followed:
            return Answer(307)

        def honest() -> Answer:
            return self.cosigner.add_checkpoint(body, logs, now, credulous=misbehaves == "credulous")

        with self.one:
            if misbehaves in MISBEHAVIOURS:
                given = MISBEHAVIOURS[misbehaves](self.cosigner, body, now, honest)
            else:
                given = honest()
            self.note(body, given)
        return given

    def note(self, body: bytes, given: Answer) -> None:
        """Write down what was asked and answered, for the tests."""
        entry = {"status": given.status, "body": body.decode("utf-8", "replace")}
        with open(self.folder / "requests", "a") as file:
            file.write(json.dumps(entry) + "\n")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 30.0
    # Head and body leave together: apart, the second waits for the client's delayed acknowledgement of the first.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdecimal():
            self._send(Answer(411), close=True)
        elif int(length) > LONGEST_BODY:
            self._send(Answer(413), close=True)
        else:
            body = self.rfile.read(int(length))
            path, _, query = self.path.partition("?")
            known = path == self.server.path
            self._send(self.server.answer(body, followed=query == FOLLOWED) if known else Answer(404))

    def do_GET(self) -> None:
        self._send(Answer(405 if self.path == self.server.path else 404))

    def _send(self, answer: Answer, close: bool = False) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.status == 307:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}{self.server.path}?{FOLLOWED}")
        if close:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(folder: str, name: str, port: str) -> None:
    """Serve until killed."""
    with Server(Path(folder), name, int(port)) as server:
        print(server.server_port, flush=True)
        server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
