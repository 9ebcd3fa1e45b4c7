# Errors of earlier sends over loopback: pending ones, and those that wait in the error queue (ip(7) IP_RECVERR, ipv6(7)).
I4, I6, DG, IP, IP6 = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, 0, 41
NOW, EQ = socket.MSG_DONTWAIT, 0x2000
CLOSED = 9


def sock(family, kind=DG, protocol=0):
    s = socket.socket(family, kind, protocol)
    s.setblocking(False)
    return s


def here(family):
    return "127.0.0.1" if family == I4 else "::1"


def err(family, s, on=1):
    s.setsockopt(*((IP, 11) if family == I4 else (IP6, 25)), on)
    return s


def polled(s):
    p = select.poll()
    p.register(s, 0x7fff & ~0x4)
    return [hex(e) for _, e in p.poll(0)]


def report(s, room=2000, control=500):
    x = outcome(s.recvmsg, room, control, EQ)
    if not isinstance(x, tuple):
        return x
    data, ancillary, flags, name = x
    told = []
    for level, kind, d in ancillary:
        if (level, kind) in ((IP, 11), (IP6, 25)) and len(d) >= 16:
            told.append((level, kind, struct.unpack("IBBBBII", d[:16]), d[16:].hex()))
        else:
            told.append((level, kind, d.hex()))
    port = name[:2] if name and name[1] == CLOSED else (name and name[0])
    return data[:40].hex(), len(data), told, hex(flags), port


def mtu(n):
    s = socket.socket(I4, DG)
    fcntl.ioctl(s, 0x8922, struct.pack("16si20x", b"lo", n))


for family in (I4, I6):
    f = "4" if family == I4 else "6"
    a = here(family)
    # A connected socket is told by its next call, whichever it is; each error once.
    s = sock(family); s.connect((a, CLOSED))
    check(f"{f} connected", lambda: (s.send(b"one"), polled(s), outcome(s.send, b"two"), polled(s), outcome(s.recv, 9, NOW)))
    check(f"{f} connected recv", lambda: (s.send(b"one"), outcome(s.recv, 9, NOW), outcome(s.recv, 9, NOW)))
    check(f"{f} connected SO_ERROR", lambda: (s.send(b"one"), s.getsockopt(1, 4), s.getsockopt(1, 4), polled(s)))
    check(f"{f} connected queue", lambda: (s.send(b"one"), report(s), outcome(s.recv, 9, NOW)))
    check(f"{f} connect forgets", lambda: (s.send(b"one"), s.connect((a, CLOSED)), outcome(s.send, b"x"), s.getsockopt(1, 4)))
    # One that is not connected is not, unless it asks for the queue.
    s = sock(family)
    check(f"{f} unconnected", lambda: (s.sendto(b"one", (a, CLOSED)), polled(s), outcome(s.recv, 9, NOW), s.getsockopt(1, 4)))
    s = err(family, sock(family))
    check(f"{f} queue", lambda: (s.sendto(b"one", (a, CLOSED)), polled(s), report(s), polled(s), outcome(s.recv, 9, NOW)))
    check(f"{f} queue and error", lambda: (s.sendto(b"one", (a, CLOSED)), s.getsockopt(1, 4), polled(s), report(s), report(s)))
    check(f"{f} two", lambda: (s.sendto(b"one", (a, CLOSED)), outcome(s.sendto, b"two", (a, CLOSED)), outcome(s.sendto, b"two", (a, CLOSED)), polled(s), report(s), polled(s), s.getsockopt(1, 4), report(s), report(s)))
    check(f"{f} error of the next", lambda: (s.sendto(b"one", (a, CLOSED)), s.getsockopt(1, 4), s.sendto(b"two", (a, CLOSED)), s.getsockopt(1, 4), report(s), s.getsockopt(1, 4), report(s), s.getsockopt(1, 4)))
    check(f"{f} short", lambda: (s.sendto(b"0123456789", (a, CLOSED)), report(s, 4, 0)))
    check(f"{f} no control", lambda: (s.sendto(b"0123456789", (a, CLOSED)), report(s, 40, 0)))
    check(f"{f} little control", lambda: (s.sendto(b"0123456789", (a, CLOSED)), report(s, 40, 30)))
    check(f"{f} long", lambda: (s.sendto(bytes(range(256)) * 8, (a, CLOSED)), report(s)))
    check(f"{f} empty", lambda: (s.sendto(b"", (a, CLOSED)), report(s)))
    check(f"{f} off empties it", lambda: (s.sendto(b"one", (a, CLOSED)), err(family, s, 0) and 0, report(s), s.getsockopt(1, 4), polled(s)))
    err(family, s)
    # What is told with an error as with a message.
    for level, names in ((IP, (8, 12, 13)), (IP6, (49, 51, 66))):
        if level == IP or family == I6:
            for name in names:
                s.setsockopt(level, name, 1)
    check(f"{f} told with it", lambda: (s.sendto(b"one", (a, CLOSED)), report(s)))
    # What is too long for its way.
    mtu(1500)
    d = err(family, sock(family)); d.setsockopt(*((IP, 10) if family == I4 else (IP6, 23)), 2)
    check(f"{f} too long", lambda: (outcome(d.sendto, b"x" * 1480, (a, CLOSED)), polled(d), d.getsockopt(1, 4), report(d), report(d)))
    check(f"{f} fits", lambda: (outcome(d.sendto, b"x" * (1472 if family == I4 else 1452), (a, CLOSED)), report(d)))
    d = sock(family); d.setsockopt(*((IP, 10) if family == I4 else (IP6, 23)), 2)
    check(f"{f} too long and nobody asked", lambda: (outcome(d.sendto, b"x" * 1480, (a, CLOSED)), polled(d), report(d)))
    mtu(65536)
    # SO_SELECT_ERR_QUEUE
    q = err(family, sock(family)); q.setsockopt(1, 45, 1)
    check(f"{f} select", lambda: (q.sendto(b"one", (a, CLOSED)), polled(q), q.getsockopt(1, 4), polled(q)))
    q.setsockopt(1, 45, 0)
    check(f"{f} select off", lambda: polled(q))
    # Ping sockets.
    open("/proc/sys/net/ipv4/ping_group_range", "w").write("0 1000")
    p = sock(family, DG, 1 if family == I4 else 58); p.connect((a, 0))
    echo = (b"\x08" if family == I4 else b"\x80") + b"\0" * 7 + b"ping"
    check(f"{f} ping", lambda: (p.send(echo), polled(p), report(p)))

# An IPv6 socket that speaks IPv4.
m = sock(I6); m.connect(("::ffff:127.0.0.1", CLOSED))
check("mapped", lambda: (m.send(b"one"), outcome(m.recv, 9, NOW)))
m = sock(I6); m.setsockopt(IP, 11, 1); m.setsockopt(IP6, 25, 1)
check("mapped queue", lambda: (m.sendto(b"one", ("::ffff:127.0.0.1", CLOSED)), report(m)))
m = sock(I6); m.setsockopt(IP, 11, 1)
check("mapped queue, asked by IP", lambda: (m.sendto(b"one", ("::ffff:127.0.0.1", CLOSED)), report(m)))
m = sock(I6); m.setsockopt(IP6, 25, 1)
check("mapped queue, asked by IPv6", lambda: (m.sendto(b"one", ("::ffff:127.0.0.1", CLOSED)), report(m)))
# Raw sockets hear of what they sent.
r = sock(I4, socket.SOCK_RAW, 200); r.connect(("127.0.0.1", 0))
check("raw", lambda: (r.send(b"one"), polled(r), outcome(r.send, b"x")))
r = err(I4, sock(I4, socket.SOCK_RAW, 200))
check("raw queue", lambda: (r.sendto(b"one", ("127.0.0.1", 0)), report(r)))
# Streams.
t = sock(I4, socket.SOCK_STREAM)
check("stream", lambda: (report(t), t.setsockopt(IP, 11, 1), report(t)))
# TTL that ends here.
