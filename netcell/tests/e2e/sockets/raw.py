# Raw and ping sockets over loopback: what they send and hear, filters of ICMP types, headers of their own (raw(7), icmp(7)).
I4, I6, RAW, DG, IP, IP6 = socket.AF_INET, socket.AF_INET6, socket.SOCK_RAW, socket.SOCK_DGRAM, 0, 41
NOW = socket.MSG_DONTWAIT


def total(data):
    data += b"\0" * (len(data) & 1)
    n = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


def echo(kind, ident, text=b"ping"):
    m = struct.pack("!BBHHH", kind, 0, 0, ident, 1) + text
    return m[:2] + struct.pack("!H", total(m)) + m[4:]


def got(s, n=1, header=0):
    out = []
    for _ in range(n):
        x = outcome(s.recvfrom, 3000, NOW)
        if not isinstance(x, tuple):
            return out + [x]
        data = x[0]
        if header:
            # Identification and checksum differ from run to run.
            data = data[:4] + b"\0\0" + data[6:10] + b"\0\0" + data[12:]
        out.append((data.hex(), x[1][:2]))
    return out


for family in (I4, I6):
    f, a = ("4", "127.0.0.1") if family == I4 else ("6", "::1")
    icmp = 1 if family == I4 else 58
    header = 1 if family == I4 else 0
    ask, answer = (8, 0) if family == I4 else (128, 129)
    # A protocol of nobody's.
    s, r, other = socket.socket(family, RAW, 200), socket.socket(family, RAW, 200), socket.socket(family, RAW, 201)
    check(f"{f} protocol", lambda: (s.sendto(b"hello", (a, 0)), got(r, 2, header), got(s, 2, header), got(other, 1, header)))
    check(f"{f} names", lambda: (r.getsockname()[:2], s.bind((a, 0)), s.getsockname()[:2], outcome(s.getpeername)))
    check(f"{f} connected", lambda: (s.connect((a, 0)), s.send(b"x"), got(r, 1, header), outcome(s.getpeername)))
    check(f"{f} bound to another", lambda: (outcome(r.bind, ("127.0.0.2" if family == I4 else "::2", 0)), s.send(b"x"), got(r, 1, header)))
    check(f"{f} port is passed over", lambda: (s.sendto(b"x", (a, 0)), outcome(s.sendto, b"x", (a, 7))))
    check(f"{f} no destination", lambda: socket.socket(family, RAW, 200).send(b"x"))
    check(f"{f} truncated", lambda: (got(s, 9, header) and 0, s.send(b"0123456789" * 10), [len(x) if isinstance(x, bytes) else x for x in (outcome(s.recv, 30, NOW), outcome(s.recv, 30, NOW))]))
    check(f"{f} users", lambda: as_user(lambda: print(outcome(socket.socket, family, RAW, 200))))
    check(f"{f} protocol 0", lambda: outcome(socket.socket, family, RAW, 0))
    # ICMP and its filter.
    i = socket.socket(family, RAW, icmp)
    i.connect((a, 0))
    if family == I6:
        check("6 checksum offset", lambda: (i.getsockopt(IP6, 7), outcome(i.setsockopt, IP6, 7, 4)))
    check(f"{f} echo", lambda: (i.send(echo(ask, 77)), got(i, 3, header)))
    level, name = (255, 1) if family == I4 else (58, 1)
    width = 4 if family == I4 else 32
    everything = b"\xff" * width
    pass_answer = bytearray(everything)
    pass_answer[answer // 8 if family == I6 else 0] &= ~(1 << answer % 8) & 0xff
    check(f"{f} filter default", lambda: i.getsockopt(level, name, width).hex())
    check(f"{f} filter", lambda: (i.setsockopt(level, name, bytes(pass_answer)), i.send(echo(ask, 78)), got(i, 3, header)))
    check(f"{f} filter all", lambda: (i.setsockopt(level, name, everything), i.send(echo(ask, 79)), got(i, 3, header)))
    check(f"{f} filter of another", lambda: outcome(s.setsockopt, level, name, everything))
    # Ping sockets: the identifier is theirs.
    open("/proc/sys/net/ipv4/ping_group_range", "w").write("0 1000")
    p = socket.socket(family, DG, icmp)
    check(f"{f} ping", lambda: (p.bind(("", 99)), p.sendto(echo(ask, 5), (a, 0)), (lambda x: [(d[:4].hex()[:4], d[8:].hex(), n) for d, n in [(bytes.fromhex(x[0][0]), x[0][1])]])(got(p))))
    check(f"{f} ping of another kind", lambda: [outcome(p.sendto, m, (a, 0)) for m in (echo(answer, 5), echo(3, 5), b"short")])
    check(f"{f} ping identifier", lambda: p.getsockname()[:2])
    # Times to live.
    check(f"{f} hops", lambda: (i.setsockopt(level, name, bytes(width)), i.setsockopt(*((IP, 2) if family == I4 else (IP6, 16)), 33), i.send(echo(answer, 80)), got(i, 2, header)))

# An IPv4 header of the program's own.
h = socket.socket(I4, RAW, 255)
check("header included", lambda: h.getsockopt(IP, 3))
listen = socket.socket(I4, RAW, 200)


def packet(length=0, src="127.0.0.5", ttl=9, ident=4711, tos=0, protocol=200, version=0x45, body=b"own"):
    return struct.pack("!BBHHHBBH4s4s", version, tos, length, ident, 0, ttl, protocol, 0, socket.inet_aton(src), socket.inet_aton("127.0.0.1")) + body


check("own header", lambda: (h.sendto(packet(), ("127.0.0.1", 0)), (lambda x: (x[0][:8].hex(), x[0][8:10].hex(), x[0][12:].hex(), x[1], total(x[0][:20])))(listen.recvfrom(99))))
check("no source", lambda: (h.sendto(packet(src="0.0.0.0"), ("127.0.0.1", 0)), listen.recv(99)[12:].hex()))
check("wrong length", lambda: (h.sendto(packet(length=9999), ("127.0.0.1", 0)), listen.recv(99)[2:4].hex()))
check("identification 0", lambda: (h.sendto(packet(ident=0), ("127.0.0.1", 0)), listen.recv(99)[4:6] != b""))
check("short", lambda: outcome(h.sendto, b"x" * 19, ("127.0.0.1", 0)))
check("header longer than the packet", lambda: outcome(h.sendto, packet(version=0x4f), ("127.0.0.1", 0)))
check("options of the header", lambda: (h.sendto(packet(version=0x46, body=b"\1\1\1\0own"), ("127.0.0.1", 0)), (lambda x: (x[:1].hex(), x[12:].hex(), total(x[:24])))(listen.recv(99))))
check("longer than the link", lambda: outcome(h.sendto, packet(body=b"x" * 65536), ("127.0.0.1", 0)))
check("nothing is heard", lambda: got(h))
o = socket.socket(I4, RAW, 200)
check("option", lambda: (o.setsockopt(IP, 3, 1), o.getsockopt(IP, 3), o.sendto(packet(), ("127.0.0.1", 0)), listen.recv(99)[20:]))
# IPv6: checksums where the program says.
c, d = socket.socket(I6, RAW, 200), socket.socket(I6, RAW, 200)
check("6 checksum", lambda: (c.getsockopt(IP6, 7), c.setsockopt(IP6, 7, 2), c.sendto(bytes(4), ("::1", 0)), d.recv(9).hex(), outcome(c.sendto, b"abc", ("::1", 0))))
check("6 checksum heard", lambda: (d.setsockopt(IP6, 7, 2), c.sendto(bytes(4), ("::1", 0)), d.recv(9).hex(), c.setsockopt(IP6, 7, -1), c.sendto(b"abcd", ("::1", 0)), outcome(d.recv, 9, NOW)))
check("6 odd offset", lambda: [outcome(c.setsockopt, IP6, 7, n) for n in (3, -1, -2, 70000)])
check("6 header included", lambda: (c.getsockopt(IP6, 36), outcome(c.setsockopt, IP6, 36, 1)))
