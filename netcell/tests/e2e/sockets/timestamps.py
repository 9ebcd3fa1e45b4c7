# Times of arrival and of sending (socket(7) SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING) over loopback. Times themselves are only judged.
I4, I6, ST, DG = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
EQ, NOW = 0x2000, socket.MSG_DONTWAIT
TX_HW, TX_SW, RX_HW, RX_SW, SOFTWARE, SYS_HW, RAW_HW, OPT_ID, TX_SCHED, TX_ACK = [1 << n for n in range(10)]
OPT_CMSG, OPT_TSONLY, OPT_STATS, OPT_PKTINFO, OPT_TX_SWHW, BIND_PHC, OPT_ID_TCP, OPT_RX_FILTER, TX_COMPLETION = [1 << n for n in range(10, 19)]
begun = time.time()


def times(d, per_second, width=16):
    """Whether each pair is a time since this program began, or nothing."""
    def one(n):
        sec, part = struct.unpack("qq", d[n:n + 16])
        t = sec + part / per_second
        return 0 if t == 0 else begun - 5 < t < begun + 600
    return [one(n) for n in range(0, len(d), 16)]


def told(ancillary):
    out = []
    for level, kind, d in ancillary:
        if level == 1 and kind in (29, 63):
            out.append((kind, times(d, 1e6)))
        elif level == 1 and kind in (35, 64, 37, 65):
            out.append((kind, times(d, 1e9)))
        elif level == 1 and kind == 54:
            out.append((kind, len(d) > 0))
        elif (level, kind) in ((0, 11), (41, 25)):
            out.append((level, kind, struct.unpack("IBBBBII", d[:16]), d[16:].hex()))
        elif level == 1 and kind == 58:
            out.append((kind, len(d)))
        else:
            out.append((level, kind, d.hex()))
    return out


def reports(s, n, payload=True):
    """n of them, in an order that does not depend on who was first."""
    out = []
    p = select.poll()
    p.register(s, 0)
    while len(out) < n:
        if not p.poll(10000):
            return out + ["nothing came"]
        x = s.recvmsg(3000, 600, EQ)
        out.append((len(x[0]) if payload else 0, told(x[1]), hex(x[2]), x[3] and x[3][0]))
    return out + [outcome(s.recvmsg, 100, 100, EQ)]


def got(r):
    x = outcome(r.recvmsg, 2000, 500, NOW)
    return (x[0], told(x[1]), x[2]) if isinstance(x, tuple) else x


# Linux begins to stamp what arrives some time after the first socket asks, and ends when no socket does: one asks all the time.
asking, asked = pair(I4, DG)
asked.setsockopt(1, 35, 1)
stamped = False
while not stamped:
    asking.send(b"x")
    stamped = bool(asked.recvmsg(9, 99)[1])

# Receiving: the four plain options, the last one wins.
for family in (I4, I6):
    f = "4" if family == I4 else "6"
    s, r = pair(family, DG)
    for name in (29, 35, 63, 64):
        check(f"{f} stamp {name}", lambda: (r.setsockopt(1, name, 1), [r.getsockopt(1, n) for n in (29, 35, 63, 64)], s.send(b"x"), got(r)))
    check(f"{f} stamp off", lambda: (r.setsockopt(1, 29, 0), [r.getsockopt(1, n) for n in (29, 35, 63, 64)], s.send(b"x"), got(r)))
    for name in (37, 65):
        for flags in (RX_SW, SOFTWARE, RX_SW | SOFTWARE, RX_HW | RAW_HW, RX_SW | SOFTWARE | RX_HW | RAW_HW | OPT_CMSG):
            check(f"{f} stamping {name} {flags}", lambda: (r.setsockopt(1, name, flags), [r.getsockopt(1, n) for n in (37, 65)], s.send(b"x"), got(r)))
    check(f"{f} both", lambda: (r.setsockopt(1, 35, 1), s.send(b"x"), got(r), r.setsockopt(1, 35, 0)))
    check(f"{f} off", lambda: (r.setsockopt(1, 37, 0), [r.getsockopt(1, n) for n in (37, 65)], s.send(b"x"), got(r)))
    check(f"{f} too many flags", lambda: [outcome(r.setsockopt, 1, 37, x) for x in (1 << 19, -1, OPT_STATS, OPT_STATS | OPT_TSONLY, OPT_ID_TCP, OPT_ID_TCP | OPT_ID)])
    # A stream tells the time of what was read last.
    s, r = pair(family, ST)
    for name in (29, 35, 63, 64):
        check(f"{f} stream stamp {name}", lambda: (r.setsockopt(1, name, 1), s.send(b"x"), got(r)))
    r.setsockopt(1, 29, 0)
    check(f"{f} stream stamping", lambda: (r.setsockopt(1, 37, RX_SW | SOFTWARE), s.send(b"x"), got(r)))
    # Sending datagrams.
    base = SOFTWARE | OPT_TSONLY
    s, r = pair(family, DG)
    for flags in (TX_SW, TX_SCHED, TX_SCHED | TX_SW, TX_SCHED | TX_SW | OPT_ID, TX_SCHED | TX_SW | OPT_CMSG, TX_ACK, TX_SW | OPT_CMSG | OPT_PKTINFO, TX_HW, TX_SW | TX_HW | OPT_TX_SWHW):
        n = (1 if flags & TX_SW else 0) + (1 if flags & TX_SCHED else 0)
        check(f"{f} sent {flags}", lambda: (s.setsockopt(1, 37, 0), s.setsockopt(1, 37, base | flags), s.send(b"x"), s.send(b"y"), reports(s, 2 * n)))
    check(f"{f} new number", lambda: (s.setsockopt(1, 37, 0), s.setsockopt(1, 65, base | TX_SW), s.send(b"x"), reports(s, 1)))
    check(f"{f} silent", lambda: (s.setsockopt(1, 37, TX_SW | OPT_TSONLY), s.send(b"x"), reports(s, 1)))
    # The packet comes along, from its link header on.
    check(f"{f} whole", lambda: (s.setsockopt(1, 37, SOFTWARE | TX_SW), s.send(b"x" * 100), reports(s, 1)))
    check(f"{f} whole, scheduled", lambda: (s.setsockopt(1, 37, SOFTWARE | TX_SCHED), s.send(b"x" * 100), reports(s, 1)))
    # One send alone asks, by a control message.
    check(f"{f} by message", lambda: (s.setsockopt(1, 37, 0), s.setsockopt(1, 37, base), s.send(b"x"), s.sendmsg([b"y"], [(1, 37, struct.pack("I", TX_SW))]), reports(s, 1)))
    check(f"{f} by message, more", lambda: (s.setsockopt(1, 37, base | TX_SW), s.sendmsg([b"y"], [(1, 37, struct.pack("I", TX_SCHED))]), reports(s, 1)))
    check(f"{f} by message, wrong", lambda: [outcome(s.sendmsg, [b"y"], [(1, 37, x)]) for x in (struct.pack("I", OPT_ID), struct.pack("H", TX_SW), struct.pack("I", RX_SW))])
    s.setsockopt(1, 37, 0)
    while isinstance(outcome(s.recvmsg, 99, 99, EQ), tuple):
        pass
    check(f"{f} own number", lambda: (s.setsockopt(1, 37, base | OPT_ID | TX_SW), s.sendmsg([b"y"], [(1, 81, struct.pack("I", 77))]), s.send(b"z"), reports(s, 2)))
    check(f"{f} own number without", lambda: (s.setsockopt(1, 37, base | TX_SW), outcome(s.sendmsg, [b"y"], [(1, 81, struct.pack("I", 77))])))
    # Sending a stream: numbered by its bytes.
    s, r = pair(family, ST)
    check(f"{f} stream before", lambda: (s.send(b"before"), r.recv(99)))
    for flags in (TX_SW | OPT_ID, TX_SCHED | TX_SW | TX_ACK | OPT_ID, TX_ACK, TX_ACK | TX_SW | OPT_ID | OPT_ID_TCP):
        n = sum(1 for x in (TX_SW, TX_SCHED, TX_ACK) if flags & x)
        check(f"{f} stream {flags}", lambda: (s.setsockopt(1, 37, 0), s.setsockopt(1, 37, base | flags), s.send(b"0123456789"), len(r.recv(99)), reports(s, n)))
    check(f"{f} stream, two", lambda: (s.setsockopt(1, 37, 0), s.setsockopt(1, 37, base | TX_ACK | OPT_ID), s.send(b"0123456789"), len(r.recv(99)), reports(s, 1), s.send(b"012345"), len(r.recv(99)), reports(s, 1)))
    check(f"{f} stream by message", lambda: (s.setsockopt(1, 37, 0), s.setsockopt(1, 37, base), s.sendmsg([b"abc"], [(1, 37, struct.pack("I", TX_ACK))]), len(r.recv(99)), reports(s, 1)))
s = socket.socket(I4, ST)
check("stream number before it is connected", lambda: (outcome(s.setsockopt, 1, 37, OPT_ID), outcome(s.setsockopt, 1, 37, TX_SW | SOFTWARE), s.getsockopt(1, 37)))
# SIOCGSTAMP
s, r = pair(I4, DG)


def stamp(number):
    b = bytearray(16)
    fcntl.ioctl(r, number, b)
    return times(bytes(b), 1e6 if number == 0x8906 else 1e9)


check("no stamp yet", lambda: stamp(0x8906))
check("no stamp of what came before", lambda: (s.send(b"x"), got(r), stamp(0x8906)))
check("stamp", lambda: (s.send(b"x"), got(r), stamp(0x8906), stamp(0x8907)))
