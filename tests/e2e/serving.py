"""Starts and stops `erne serve` for the end-to-end tests, and the small things that they share."""
import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request


def arguments(description):
    """--erne and --model, else ERNE_BINARY and ERNE_DEFAULT_MODEL; exits 77 (skipped) where one is missing."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--erne", default=os.environ.get("ERNE_BINARY"))
    parser.add_argument("--model", default=os.environ.get("ERNE_DEFAULT_MODEL"))
    args = parser.parse_args()
    if not args.erne or not args.model or not os.path.exists(args.model):
        print("skipped: needs --erne and --model (ERNE_BINARY, ERNE_DEFAULT_MODEL)")
        sys.exit(77)
    return args


class Server:
    def __init__(self, process, port):
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def post(self, path, body, timeout=300):
        """(status, body) of a POST; `body` is bytes or a JSON value."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def state(self):
        info = self.get("/get_server_info")
        return info, info["internal_states"][0]

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self):
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serve(args, *flags):
    port = free_port()
    command = [args.erne, "serve", "--model-path", args.model, "--port", str(port), "--log-level", "warning", *flags]
    process = subprocess.Popen(command)
    try:
        server = Server(process, port)
        deadline = time.monotonic() + 300
        while True:
            if process.poll() is not None:
                raise SystemExit(f"erne serve ended with {process.returncode}: {command}")
            try:
                server.get("/ready")
                break
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def eventually(check, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
