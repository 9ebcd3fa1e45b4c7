# UDP over loopback: trains of datagrams, corks, filters, sources of groups, what is told with a message.
I4, I6, DG, IP, IP6, UDP = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, 0, 41, 17
NOW, PEEK, MORE = socket.MSG_DONTWAIT, socket.MSG_PEEK, socket.MSG_MORE


def pair(family=I4):
    a = "127.0.0.1" if family == I4 else "::1"
    r = socket.socket(family, DG)
    r.bind((a, 0))
    r.setsockopt(1, 20, struct.pack("qq", 10, 0))
    s = socket.socket(family, DG)
    s.connect(r.getsockname()[:2])
    return s, r


def got(r, n=99):
    out = []
    while len(out) < n:
        x = outcome(r.recvmsg, 70000, 500, NOW)
        if not isinstance(x, tuple):
            return out + [x]
        out.append((len(x[0]), [(l, t, d.hex()) for l, t, d in x[1]], x[2]))
    return out


def prog(*rows):
    code = b"".join(struct.pack("HBBI", *r) for r in rows)
    buf = ctypes.create_string_buffer(code)
    return buf, struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(buf))


for family in (I4, I6):
    f = "4" if family == I4 else "6"
    for o in (1, 100, 101, 102, 103, 104, 99):
        check(f"{f} default {o}", lambda: pair(family)[0].getsockopt(UDP, o))
    s, r = pair(family)
    check(f"{f} segment range", lambda: [outcome(s.setsockopt, UDP, 103, v) for v in (-1, 65536, 65535, 0)])
    check(f"{f} short value", lambda: s.setsockopt(UDP, 103, b"\1\0"))
    # Trains.
    s.setsockopt(UDP, 103, 1000)
    check(f"{f} segment", lambda: (s.getsockopt(UDP, 103), s.send(b"x" * 2500), got(r)))
    check(f"{f} segment of one", lambda: (s.send(b"x" * 1000), got(r)))
    r.setsockopt(UDP, 104, 1)
    check(f"{f} gro", lambda: (s.send(b"x" * 2500), s.send(b"y" * 1000), s.send(b"z" * 5), got(r)))
    s.setsockopt(UDP, 103, 0)
    check(f"{f} segment cmsg", lambda: (s.sendmsg([b"x" * 700], [(UDP, 103, struct.pack("H", 300))]), got(r)))
    check(f"{f} segment cmsg wrong", lambda: s.sendmsg([b"x" * 700], [(UDP, 103, struct.pack("I", 300))]))
    check(f"{f} unknown cmsg", lambda: s.sendmsg([b"x" * 700], [(UDP, 99, struct.pack("I", 300))]))
    check(f"{f} too many", lambda: s.sendmsg([b"x" * 1290], [(UDP, 103, struct.pack("H", 10))]))
    check(f"{f} most", lambda: (s.sendmsg([b"x" * 1280], [(UDP, 103, struct.pack("H", 10))]), got(r)))
    check(f"{f} larger than the link", lambda: s.sendmsg([b"x" * 60000], [(UDP, 103, struct.pack("H", 65535))]))
    r.setsockopt(UDP, 104, 0)
    # Corks.
    check(f"{f} more", lambda: (s.send(b"one ", MORE), got(r), s.send(b"message"), got(r)))
    check(f"{f} cork", lambda: (s.setsockopt(UDP, 1, 1), s.send(b"ab"), s.send(b"cd"), got(r), s.setsockopt(UDP, 1, 0), got(r)))
    check(f"{f} cork too long", lambda: (s.setsockopt(UDP, 1, 1), s.send(b"a" * 60000), outcome(s.send, b"b" * 6000), outcome(s.setsockopt, UDP, 1, 0), got(r)))
    # Peeks at an offset.
    check(f"{f} peek off default", lambda: r.getsockopt(1, 42))
    r.setsockopt(1, 42, 0)
    for x in (b"abcdef", b"gh"):
        s.send(x)
    check(f"{f} peek off", lambda: [(r.recv(n, PEEK | NOW), r.getsockopt(1, 42)) for n in (2, 2, 2, 5)])
    check(f"{f} peek off after", lambda: (r.recv(9), r.getsockopt(1, 42), r.recv(9), r.getsockopt(1, 42)))
    r.setsockopt(1, 42, -1)
    # Filters.
    fl = prog((0x30, 0, 0, 8), (0x15, 0, 1, 0x79), (6, 0, 0, 11), (6, 0, 0, 0))
    check(f"{f} filter", lambda: (r.setsockopt(1, 26, fl[1]), s.send(b"no"), s.send(b"yes sir"), got(r)))
    check(f"{f} filter to the header", lambda: (r.setsockopt(1, 26, prog((6, 0, 0, 1))[1]), s.send(b"gone"), got(r)))
    net = prog((0x30, 0, 0, 0xfff00000 + (9 if family == I4 else 6)), (0x15, 0, 1, 17), (6, 0, 0, 99), (6, 0, 0, 0))
    check(f"{f} filter of the network header", lambda: (r.setsockopt(1, 26, net[1]), s.send(b"udp"), got(r)))
    check(f"{f} detach", lambda: (r.setsockopt(1, 27, 0), outcome(r.setsockopt, 1, 27, 0), s.send(b"free"), got(r)))
    check(f"{f} get filter", lambda: (r.setsockopt(1, 26, fl[1]), (lambda n: (call(55, r.fileno(), 1, 26, None, n), n[0]))((ctypes.c_int * 1)(0)))[1])
    check(f"{f} lock", lambda: (r.setsockopt(1, 44, 1), r.getsockopt(1, 44), outcome(r.setsockopt, 1, 27, 0), outcome(r.setsockopt, 1, 44, 0)))
    # Losses.
    s, r = pair(family)
    r.setsockopt(1, 8, 4096)
    r.setsockopt(1, 40, 1)
    for _ in range(60):
        s.send(b"l" * 500)
    lost = [x for x in got(r) if isinstance(x, tuple)]
    s.send(b"after")
    check(f"{f} losses", lambda: (0 < len(lost) < 60, lost[0][1], (lambda m: (m[0][0:2], struct.unpack("I", m[1][0][2])[0] == 60 - len(lost)))(r.recvmsg(10, 100))))
    # Told with a message.
    s, r = pair(family)
    s.bind if False else None
    r.setsockopt(IP if family == I4 else IP6, 20 if family == I4 else 74, 1)
    check(f"{f} original", lambda: (s.send(b"x"), (lambda x: (x[1][0][:2], x[1][0][2][4:8] == x[1][0][2][4:8], len(x[1][0][2])))(r.recvmsg(9, 200)[:2] if False else (0, [(l, t, d.hex()) for l, t, d in r.recvmsg(9, 200)[1]]))))
    # No checksums.
    s.setsockopt(1, 11, 1); s.setsockopt(UDP, 101, 1)
    check(f"{f} no checksum", lambda: (s.send(b"x"), [x[0] if isinstance(x, tuple) else x for x in got(r)]))
    r.setsockopt(UDP, 102, 1)
    check(f"{f} no checksum allowed", lambda: (s.send(b"x"), [x[0] if isinstance(x, tuple) else x for x in got(r)]))

# Flow labels.
s, r = pair(I6)
r.setsockopt(IP6, 11, 1)
check("auto flow label", lambda: (s.send(b"x"), (lambda d: (len(d), int.from_bytes(d, "big") & 0xfffff != 0))(r.recvmsg(9, 99)[1][0][2])))
s.setsockopt(IP6, 70, 0)
check("no flow label", lambda: (s.send(b"x"), r.recvmsg(9, 99)[1]))
check("flow defaults", lambda: [s.getsockopt(IP6, o) for o in (11, 33, 70, 62, 29)])
check("dontfrag cmsg", lambda: (s.sendmsg([b"x"], [(IP6, 62, struct.pack("i", 1))]), outcome(s.sendmsg, [b"x"], [(IP6, 62, struct.pack("i", 2))]), r.recv(9), outcome(r.recv, 9, NOW)))
# Groups and their sources.
G, L = socket.inet_aton("239.1.2.3"), socket.inet_aton("127.0.0.1")


def member(n):
    return G + L + socket.inet_aton(f"127.0.0.{n}")


m = socket.socket(I4, DG); m.bind(("", 0)); m.setsockopt(1, 20, struct.pack("qq", 10, 0))
port = m.getsockname()[1]


def say(n):
    s = socket.socket(I4, DG); s.bind((f"127.0.0.{n}", 0)); s.setsockopt(IP, 32, L)
    s.sendto(bytes([0x30 + n]), ("239.1.2.3", port))
    return outcome(m.recv, 9, NOW)


def filt(mode, *n):
    return m.setsockopt(IP, 41, G + L + struct.pack("II", mode, len(n)) + b"".join(socket.inet_aton(f"127.0.0.{x}") for x in n))


def filter_now():
    b = ctypes.create_string_buffer(G + L + struct.pack("II", 0, 4), 32); n = (ctypes.c_int * 1)(32)
    call(55, m.fileno(), IP, 41, b, n)
    return struct.unpack("II", b.raw[8:16]), n[0], b.raw[16:16 + 4 * struct.unpack("I", b.raw[12:16])[0]].hex()


check("not joined", lambda: say(2))
check("block unjoined", lambda: m.setsockopt(IP, 38, member(2)))
check("drop unjoined", lambda: m.setsockopt(IP, 40, member(2)))
check("filter unjoined", lambda: filt(1, 2))
check("read unjoined", lambda: filter_now())
check("join source", lambda: (m.setsockopt(IP, 39, member(2)), say(2), say(3)))
check("join source twice", lambda: m.setsockopt(IP, 39, member(2)))
check("block of included", lambda: m.setsockopt(IP, 38, member(3)))
check("join after", lambda: m.setsockopt(IP, 35, G + L))
check("filter", lambda: filter_now())
check("more sources", lambda: ([outcome(m.setsockopt, IP, 39, member(n)) for n in range(3, 14)], say(3)))
check("leave source", lambda: (m.setsockopt(IP, 40, member(3)), say(3), say(2), outcome(m.setsockopt, IP, 40, member(3))))
check("set filter", lambda: (filt(0, 2, 4), say(2), say(3), filter_now()))
check("unblock", lambda: (m.setsockopt(IP, 37, member(2)), say(2), outcome(m.setsockopt, IP, 37, member(2))))
check("bad mode", lambda: filt(2, 2))
check("short", lambda: m.setsockopt(IP, 39, G + L))
check("short filter", lambda: m.setsockopt(IP, 41, G + L + struct.pack("II", 1, 2) + L))
check("many", lambda: filt(1, *range(11)))
check("include nobody", lambda: (filt(1), say(2), outcome(filter_now)))
check("no such interface", lambda: m.setsockopt(IP, 39, G + socket.inet_aton("9.9.9.9") + L))
check("no group", lambda: m.setsockopt(IP, 39, L + L + L))
check("all", lambda: (m.getsockopt(IP, 49), m.setsockopt(IP, 49, 0), outcome(m.setsockopt, IP, 49, 2)))
other = socket.socket(I4, DG); other.setsockopt(IP, 35, G + L)
check("other's group", lambda: (say(2), m.setsockopt(IP, 49, 1), say(2)))
store = lambda a: struct.pack("=H2x4s", I4, socket.inet_aton(a)).ljust(128, b"\0")
check("group_source_req", lambda: (m.setsockopt(IP, 46, struct.pack("I4x", 1) + store("239.1.2.3") + store("127.0.0.5")), say(5), say(6)))
check("group_req join", lambda: m.setsockopt(IP, 42, struct.pack("I4x", 1) + store("239.9.9.9")))
check("group_req leave", lambda: (m.setsockopt(IP, 45, struct.pack("I4x", 1) + store("239.9.9.9")), outcome(m.setsockopt, IP, 45, struct.pack("I4x", 1) + store("239.9.9.9"))))
check("unicast if", lambda: (m.getsockopt(IP, 50), m.setsockopt(IP, 50, socket.htonl(1)), m.getsockopt(IP, 50) == socket.htonl(1), outcome(m.setsockopt, IP, 50, socket.htonl(99))))
