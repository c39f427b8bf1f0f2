"""Drafts with a model's answer, and looks for another way out and for the model's key."""

import json
import os
import pathlib
import re
import socket
import subprocess
import urllib.request

BASE = os.environ["ANTHROPIC_BASE_URL"]
UPSTREAM = "@UPSTREAM@"
HOST, PORT = UPSTREAM.removeprefix("http://").split(":")


def ask(path, base=BASE):
    headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"]}
    request = urllib.request.Request(base + path, b'{"model": "m", "round": 1}', headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def refused(what, attempt):
    try:
        attempt()
    except OSError:
        return
    raise SystemExit(f"{what} was reached")


def through_a_tunnel():
    raw = socket.create_connection(("127.0.0.1", 3128), 5)
    raw.sendall(f"CONNECT {HOST}:{PORT} HTTP/1.1\r\n\r\n".encode())
    if b" 403 " in raw.recv(4096):
        raise OSError


def readable():
    """All that can be read: variables and command lines of each process, and every file."""
    yield json.dumps(dict(os.environ)).encode()
    files = [
        process / name
        for process in pathlib.Path("/proc").glob("[0-9]*")
        for name in ("environ", "cmdline")
    ]
    for top in ("/workspace", "/home", "/tmp", "/run", "/etc", os.path.dirname(__file__)):
        for folder, _, names in os.walk(top):
            files += [pathlib.Path(folder, name) for name in names]
    for file in files:
        try:
            yield file.read_bytes() if file.is_file() or "proc" in file.parts else b""
        except OSError:
            pass


refused("another path", lambda: ask("/v1/files"))
refused("a path that leads elsewhere", lambda: ask("/v1/messages/../files"))
refused("the model, around its proxy,", lambda: ask("/v1/messages", UPSTREAM))
refused("another port of the host", lambda: socket.create_connection((HOST, int(PORT)), 5))
refused("another host", lambda: socket.create_connection(("192.0.2.1", 443), 5))
refused("a name", lambda: socket.getaddrinfo("model.example", 443))
refused("a tunnel", through_a_tunnel)

change = ask("/v1/messages")
seen = b"".join(readable())
subprocess.run(["git", "apply", "-"], input=change, check=True)
keys = re.findall(rb"model[0-9a-f]{32}", seen)
pathlib.Path("orders/seen.txt").write_text(f"{len(keys)} keys, {len(seen) > 10_000}\n")
