"""A Kubernetes API server for kubectl's exec, attach and port-forward alone: CRI-SOCKET, then on standard input a JSON object of pods,
{name: {"id": ID, "containers": [{"name": NAME, "id": ID, "tty": BOOL, "stdin": BOOL}]}}. It prints its port, and ends with its standard input.

As a real one with its kubelet: it asks the container runtime for the URL of the stream, and joins kubectl's connection with it, byte by byte."""

import contextlib
import json
import select
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import cri

PODS = "/api/v1/namespaces/default/pods/"
DISCOVERY = {
    "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList", "groupVersion": "v1",
        "resources": [{"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]}],
    },
}
pods = json.loads(sys.stdin.readline())


def shown(name):
    """A running pod, as far as kubectl looks."""
    containers = pods[name]["containers"]
    keys = ("name", "tty", "stdin")
    return {
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{key: one[key] for key in keys} for one in containers]}, "status": {"phase": "Running"},
    }


def streamed(name, verb, query):
    """The URL of a stream of the runtime's."""
    flag = lambda key: query.get(key, [""])[0] in ("1", "true")
    pod = pods[name]
    if verb == "portforward":
        ports = [int(port) for port in query.get("ports", [])]
        return cri.ask(sys.argv[1], "PortForward", {"id": pod["id"], "port": ports})["url"]
    container = query["container"][0]
    request = {"id": next(one["id"] for one in pod["containers"] if one["name"] == container)}
    request |= {key: flag(key) for key in ("tty", "stdin", "stdout", "stderr")}
    if verb == "exec":
        request["cmd"] = query["command"]
    return cri.ask(sys.argv[1], verb.capitalize(), request)["url"]


def join(one, other):
    """Carries bytes both ways until one side ends."""
    to = {one: other, other: one}
    while True:
        for ready in select.select(list(to), [], [])[0]:
            data = ready.recv(1 << 16)
            if not data:
                return
            to[ready].sendall(data)


class Handler(BaseHTTPRequestHandler):
    # What follows a request belongs to the stream, and must not be read ahead.
    rbufsize = 0
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path.startswith(PODS):
            name, _, verb = url.path[len(PODS):].partition("/")
            return self.stream(name, verb, parse_qs(url.query)) if verb else self.tell(200, shown(name))
        answer = DISCOVERY.get(url.path)
        return self.tell(200, answer) if answer else self.tell(404, {"kind": "Status", "status": "Failure", "code": 404})

    do_POST = do_GET

    def tell(self, code, value):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, name, verb, query):
        url = urlsplit(streamed(name, verb, query))
        with socket.create_connection((url.hostname, url.port)) as runtime:
            head = f"{self.command} {url.path} HTTP/1.1\r\n{self.headers}"
            runtime.sendall(head.replace("\n", "\r\n").replace("\r\r", "\r").encode())
            # Either side may go away with bytes on their way.
            with contextlib.suppress(ConnectionError):
                join(self.connection, runtime)
        self.close_connection = True

    def log_message(self, *_):
        pass


with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
