# The program of a script on Linux: it makes the calls that come as lines of JSON, each in a thread of its own because it may block,
# and writes a line of JSON for what each returned.
import fcntl
import json
import os
import select
import socket
import struct
import sys
import threading
import time

sockets = []
lock = threading.Lock()

SMALL = "state ca_state retransmits probes backoff options".split()
WORDS = """rto ato snd_mss rcv_mss unacked sacked lost retrans fackets last_data_sent last_ack_sent last_data_recv last_ack_recv
    pmtu rcv_ssthresh rtt rttvar snd_ssthresh snd_cwnd advmss reordering rcv_rtt rcv_space total_retrans""".split()
LATER = [
    ("Q", "pacing_rate max_pacing_rate bytes_acked bytes_received"),
    ("I", "segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out"),
    ("Q", "delivery_rate busy_time rwnd_limited sndbuf_limited"),
    ("I", "delivered delivered_ce"),
    ("Q", "bytes_sent bytes_retrans"),
    ("I", "dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd"),
]


def tcp_info(number):
    raw = sockets[number].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
    members = {f"tcpi_{name}": raw[at] for at, name in enumerate(SMALL)}
    members["tcpi_snd_wscale"], members["tcpi_rcv_wscale"] = raw[6] & 15, raw[6] >> 4
    members.update((f"tcpi_{name}", value) for name, value in zip(WORDS, struct.unpack_from("=24I", raw, 8)))
    at = 104
    for code, names in LATER:
        for name in names.split():
            if at + struct.calcsize(code) <= len(raw):
                members[f"tcpi_{name}"] = struct.unpack_from("=" + code, raw, at)[0]
            at += struct.calcsize(code)
    # As the runner keeps them.
    return dict(value=0, members=sorted((name, min(value, 2**63 - 1)) for name, value in members.items()))


def put(new):
    sockets.append(new)
    return len(sockets) - 1


def named(address):
    return [address[0].split("%")[0], address[1]] if address else None


def receive(number, length, flags):
    room = bytearray(length)
    # With MSG_TRUNC the value is more than what is in the room.
    value, address = sockets[number].recvfrom_into(room, length, flags)
    return dict(value=value, data=room[:value].hex(), address=named(address))


def send(number, data, flags, to):
    data = bytes.fromhex(data)
    flags |= socket.MSG_NOSIGNAL
    return sockets[number].sendto(data, flags, tuple(to)) if to else sockets[number].send(data, flags)


def accept(number, flags):
    child, address = sockets[number].accept()
    # Python's accept gives a socket without a flag of its own.
    child.setblocking(not flags & socket.SOCK_NONBLOCK)
    return dict(value=put(child), address=named(address))


def poll(entries, timeout):
    poller = select.poll()
    for number, events in entries:
        poller.register(sockets[number], events)
    found = dict(poller.poll(timeout))
    events = [found.get(sockets[number].fileno(), 0) for number, _ in entries]
    return dict(value=sum(1 for one in events if one), events=events)


def close(number):
    os.close(sockets[number].detach())
    return 0


def nonblocking(number, on):
    flags = fcntl.fcntl(sockets[number], fcntl.F_GETFL) & ~os.O_NONBLOCK
    fcntl.fcntl(sockets[number], fcntl.F_SETFL, flags | (os.O_NONBLOCK if on else 0))
    return 0


def ioctl(number, request):
    return dict(value=0, data=fcntl.ioctl(sockets[number], request, b"\0\0\0\0").hex())


def option(number, level, name, room):
    return dict(value=0, data=sockets[number].getsockopt(level, name, room).hex())


def plain(call):
    return lambda number, *words: call(sockets[number], *words) or 0


calls = dict(
    socket=lambda family, kind, protocol: put(socket.socket(family, kind, protocol)),
    bind=plain(lambda own, to: own.bind(tuple(to))),
    listen=plain(lambda own, backlog: own.listen(backlog)),
    connect=plain(lambda own, to: own.connect(tuple(to))),
    shutdown=plain(lambda own, how: own.shutdown(how)),
    set_option=plain(lambda own, level, name, value: own.setsockopt(level, name, bytes.fromhex(value))),
    flags=plain(lambda own: fcntl.fcntl(own, fcntl.F_GETFL)),
    accept=accept, receive=receive, send=send, close=close, option=option, nonblocking=nonblocking, ioctl=ioctl, poll=poll,
    tcp_info=tcp_info,
)


def make(name, words):
    try:
        returned = calls[name](*words)
    except OSError as error:
        returned = dict(errno=error.errno)
    if not isinstance(returned, dict):
        returned = dict(value=returned)
    returned["at"] = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    with lock:
        sys.stdout.write(json.dumps(returned) + "\n")
        sys.stdout.flush()


print("{}", flush=True)
for line in sys.stdin:
    name, *words = json.loads(line)
    threading.Thread(target=make, args=(name, words), daemon=True).start()
os._exit(0)
