#!/usr/bin/env python3
"""A program at one end of a connection, step by step.

    peer.py STEP...

    listen:PORT accept                           becomes a server
    connect:HOST:PORT                            becomes a client (HOST may be an IPv6 address in brackets)
    write:N  text:WORDS  read:N  eof             bytes; eof reads until the end
    sleep:S  shut  close  reset                  waits; closes its direction; closes; closes with a reset
    urgent:N                                     bytes of which the last is urgent
    port:N rcvbuf:N sndbuf:N maxseg:N nodelay cork:0|1 quickack:0|1 keepalive:IDLE:INTERVAL:COUNT tfo:N backlog:N
    fastopen:HOST:PORT:N                         opens with N bytes in its SYN
    repeat:N                                     what follows, N times
    drip:N:SIZE:S                                reads N bytes, SIZE at a time, S seconds apart
    !STEP                                        this step must fail

A server says `ready` as soon as it listens.
"""
import re
import socket
import struct
import sys
import time

PATTERN = bytes(range(251)) * 4096


class Peer:
    """The listener, and the connection under way."""

    def __init__(self):
        self.options, self.listener, self.stream, self.backlog, self.port = [], None, None, 16, None

    def option(self, level, name, value):
        if self.stream is not None:
            self.stream.setsockopt(level, name, value)
        elif self.listener is not None:
            self.listener.setsockopt(level, name, value)
        else:
            self.options.append((level, name, value))

    def socket(self, family):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A namespace may be kept from it as its default; a socket of root is not.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        for option in self.options:
            made.setsockopt(*option)
        return made

    def step(self, name, words):
        tcp, general = socket.IPPROTO_TCP, socket.SOL_SOCKET
        plain = {"rcvbuf": (general, socket.SO_RCVBUF), "sndbuf": (general, socket.SO_SNDBUF), "maxseg": (tcp, socket.TCP_MAXSEG),
                 "cork": (tcp, socket.TCP_CORK), "quickack": (tcp, socket.TCP_QUICKACK), "tfo": (tcp, socket.TCP_FASTOPEN)}
        if name in plain:
            self.option(*plain[name], int(words[0]))
        elif name == "nodelay":
            self.option(tcp, socket.TCP_NODELAY, 1)
        elif name == "keepalive":
            self.option(general, socket.SO_KEEPALIVE, 1)
            for option, value in zip((socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT), words):
                self.option(tcp, option, int(value))
        elif name in ("backlog", "port"):
            setattr(self, name, int(words[0]))
        else:
            getattr(self, name)(*words)

    def listen(self, port):
        self.listener = self.socket(socket.AF_INET6)
        self.listener.bind(("::", int(port)))
        self.listener.listen(self.backlog)
        print("ready", flush=True)

    def accept(self):
        self.stream = self.listener.accept()[0]

    def open(self, host):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.stream = self.socket(family)
        if self.port:
            self.stream.bind(("::" if ":" in host else "0.0.0.0", self.port))

    def connect(self, host, port):
        self.open(host)
        self.stream.connect((host, int(port)))

    def fastopen(self, host, port, count):
        self.open(host)
        self.stream.sendto(PATTERN[: int(count)], socket.MSG_FASTOPEN, (host, int(port)))

    def write(self, count):
        self.stream.sendall(PATTERN[: int(count)])

    def text(self, words):
        self.stream.sendall(words.encode())

    def urgent(self, count):
        self.stream.send(PATTERN[: int(count)], socket.MSG_OOB)

    def read(self, count):
        left = int(count)
        while left:
            got = len(self.stream.recv(min(left, 1 << 16)))
            if not got:
                sys.exit(f"peer.py: the end came {left} bytes early")
            left -= got

    def drip(self, count, size, pause):
        left = int(count)
        while left:
            time.sleep(float(pause))
            left -= len(self.stream.recv(min(left, int(size))))

    def eof(self):
        while self.stream.recv(1 << 16):
            pass

    def sleep(self, seconds):
        time.sleep(float(seconds))

    def shut(self):
        self.stream.shutdown(socket.SHUT_WR)

    def close(self):
        self.stream.close()
        self.stream = None

    def reset(self):
        self.option(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


def play(peer, steps):
    for at, step in enumerate(steps):
        fails = step.startswith("!")
        name, *words = [part.strip("[]") for part in re.findall(r"\[[^]]*\]|[^:]+", step.lstrip("!"))]
        if name == "repeat":
            for _ in range(int(words[0])):
                play(peer, steps[at + 1:])
            return
        try:
            peer.step(name, words)
        except OSError as error:
            if not fails:
                raise
            print(f"{step}: {error}", flush=True)
        else:
            if fails:
                sys.exit(f"peer.py: {step} did not fail")


play(Peer(), sys.argv[1:])
