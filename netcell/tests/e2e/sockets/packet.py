# Packet sockets on the loopback interface: what they see both ways, filters, options, rings.
PK, RAW, DG, SOLP = 17, socket.SOCK_RAW, socket.SOCK_DGRAM, 263
ALL = 3
NOW = socket.MSG_DONTWAIT
TRUNC = socket.MSG_TRUNC


def pk(kind=RAW, proto=ALL, nic="lo"):
    s = socket.socket(PK, kind, socket.htons(proto))
    if nic:
        s.bind((nic, proto))
    s.setsockopt(1, 20, struct.pack('qq', 10, 0))
    return s


def frames(s, n):
    out = []
    for _ in range(n):
        data, addr = s.recvfrom(5000)
        out.append((addr[0], hex(addr[1]), addr[2], addr[3], addr[4].hex(), len(data), data[:1].hex(), hex(data[12]) if data[0] != 0x45 else data[9]))
    return out + [outcome(s.recv, 1, NOW)]


def udp(payload=b"x" * 10, to=("127.0.0.1", 9)):
    u = socket.socket(socket.AF_INET, DG)
    u.sendto(payload, to)


def prog(*rows):
    code = b"".join(struct.pack("HBBI", *r) for r in rows)
    buf = ctypes.create_string_buffer(code)
    return buf, struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(buf))


check("bad type", lambda: socket.socket(PK, socket.SOCK_STREAM, 0))
check("identity", lambda: (lambda s: [s.getsockopt(1, o) for o in (39, 3, 38)])(pk()))
s = pk()
s.getsockname()
check("name", lambda: (s.getsockname()[0], hex(s.getsockname()[1]), s.getsockname()[2:4], s.getsockname()[4].hex()))
check("name length", lambda: (lambda b, n: (call(51, s.fileno(), b, n), n[0]))(ctypes.create_string_buffer(64), (ctypes.c_int * 1)(64)))
u0 = pk(nic=None)
check("name unbound", lambda: (u0.getsockname()[0], u0.getsockname()[1], (lambda b, n: (call(51, u0.fileno(), b, n), n[0]))(ctypes.create_string_buffer(64), (ctypes.c_int * 1)(64))))
u0.close()
udp()
# A refused datagram: the datagram out and in, the ICMP error out and in.
check("both ways", lambda: frames(s, 4))
c = pk(DG)
udp()
check("cooked", lambda: frames(c, 4))
i = pk(DG, 0x800)
udp()
check("one protocol sees what comes in", lambda: frames(i, 2))
z = pk(RAW, 0)
udp()
check("no protocol sees nothing", lambda: outcome(z.recv, 1, NOW))
o = pk()
o.setsockopt(SOLP, 23, 1)
udp()
check("ignore outgoing", lambda: frames(o, 2))
check("ignore outgoing 2", lambda: o.setsockopt(SOLP, 23, 2))
check("v6", lambda: (lambda p: (socket.socket(socket.AF_INET6, DG).sendto(b"abc", ("::1", 9)), frames(p, 2)))(pk(RAW, 0x86dd)))
# Truncation.
udp()
check("truncated", lambda: (lambda m: (len(m[0]), m[2]))(o.recvmsg(20)))
check("trunc length", lambda: call(45, o.fileno(), ctypes.create_string_buffer(4), 4, TRUNC, None, None))
udp()
check("peek", lambda: (len(o.recv(100, socket.MSG_PEEK)), len(o.recv(100)), len(o.recv(100))))
check("fionread", lambda: (udp(), struct.unpack("i", fcntl.ioctl(o, 0x541b, b"\0\0\0\0"))[0], o.recv(9), o.recv(9))[1])
check("oob", lambda: o.recv(1, socket.MSG_OOB))
# Sending.
tx = pk(RAW, 0)
rx = pk()
frame = b"\xff" * 6 + b"\2" * 6 + b"\x88\xb5" + b"hello"
check("send raw", lambda: (tx.send(frame), frames(rx, 2)))
check("own frames", lambda: (rx.send(frame), frames(rx, 1)))
check("send short", lambda: tx.send(b"\0" * 13))
check("send too long", lambda: tx.send(b"\0" * 12 + b"\x88\xb5" + b"\0" * 65537))
check("send no device", lambda: socket.socket(PK, RAW, 0).send(frame))
check("send to unknown", lambda: call(44, tx.fileno(), frame, len(frame), 0, struct.pack("HHiHBB8s", 17, 0, 99, 0, 0, 0, b""), 20))
check("send short address", lambda: call(44, tx.fileno(), frame, len(frame), 0, struct.pack("HHiHBB", 17, 0, 1, 0, 0, 0), 12))
check("send other family", lambda: call(44, tx.fileno(), frame, len(frame), 0, struct.pack("HHiHBB8s", 2, 0, 1, 0, 0, 0, b""), 20))
for _ in range(2):
    rx.recv(100)
cook = pk(DG, 0)
check("send cooked", lambda: (cook.sendto(b"data", ("lo", 0x88b5, 0, 0, b"\1\2\3\4\5\6")), frames(rx, 2)))
for d in (rx, s, c, i, o):
    d.close()
check("connect", lambda: call(42, tx.fileno(), struct.pack("HHiHBB8s", 17, 0, 1, 0, 0, 0, b""), 20))
check("shutdown", lambda: tx.shutdown(socket.SHUT_RD))
check("listen", lambda: tx.listen())
check("getpeername", lambda: tx.getpeername())
check("bind unknown", lambda: call(49, tx.fileno(), struct.pack("HHiHBB8s", 17, 0, 99, 0, 0, 0, b""), 20))
check("bind short", lambda: call(49, tx.fileno(), struct.pack("HHiHBB", 17, 0, 1, 0, 0, 0), 12))
check("bind family", lambda: call(49, tx.fileno(), struct.pack("HHiHBB8s", 2, 0, 1, 0, 0, 0, b""), 20))
# Options.
for name in (3, 8, 9, 10, 11, 12, 14, 17, 20, 23, 99):
    check(f"option {name}", lambda: pk().getsockopt(SOLP, name))
check("hdrlen", lambda: [(lambda b, n: (call(55, tx.fileno(), SOLP, 11, b, n), b[0]))((ctypes.c_int * 1)(v), (ctypes.c_int * 1)(4))[1] for v in (0, 1, 2)])
check("hdrlen 3", lambda: (lambda b, n: call(55, tx.fileno(), SOLP, 11, b, n))((ctypes.c_int * 1)(3), (ctypes.c_int * 1)(4)))
check("version 3", lambda: tx.setsockopt(SOLP, 10, 3))
check("reserve -1", lambda: tx.setsockopt(SOLP, 12, -1))
check("member", lambda: tx.setsockopt(SOLP, 1, struct.pack("iHH8s", 1, 1, 0, b"")))
check("member unknown", lambda: tx.setsockopt(SOLP, 1, struct.pack("iHH8s", 99, 1, 0, b"")))
check("member multicast", lambda: tx.setsockopt(SOLP, 1, struct.pack("iHH8s", 1, 0, 6, b"\1\0\x5e\0\0\1")))
check("member short address", lambda: tx.setsockopt(SOLP, 1, struct.pack("iHH8s", 1, 0, 4, b"\1\0\x5e\0\0\1")))
check("member long address", lambda: tx.setsockopt(SOLP, 1, struct.pack("iHH8s", 1, 0, 8, b"\1\0\x5e\0\0\1")))
check("member short", lambda: tx.setsockopt(SOLP, 1, b"\1\0\0\0"))
check("drop member", lambda: tx.setsockopt(SOLP, 2, struct.pack("iHH8s", 1, 1, 0, b"")))
check("drop again", lambda: tx.setsockopt(SOLP, 2, struct.pack("iHH8s", 1, 1, 0, b"")))
# Auxiliary data and times.
a = pk(RAW, 0x800)
a.setsockopt(SOLP, 8, 1)
a.setsockopt(1, 35, 1)
udp()
check("auxdata", lambda: [(l, t, struct.unpack("IIIHHHH", d)[1:] if l == SOLP else len(d)) for l, t, d in a.recvmsg(100, 200)[1]])
check("auxdata truncated", lambda: (lambda m: [(l, t, struct.unpack("IIIHHHH", d)[1:]) for l, t, d in m[1] if l == SOLP])(a.recvmsg(100, 200)))
# Statistics.
st = pk(RAW, 0x800)
for _ in range(3):
    udp()
check("statistics", lambda: struct.unpack("II", st.getsockopt(SOLP, 6, 8)))
check("statistics again", lambda: struct.unpack("II", st.getsockopt(SOLP, 6, 8)))
# Filters.
f = pk(RAW, 0x800)
udpf = prog((0x30, 0, 0, 23), (0x15, 0, 1, 17), (6, 0, 0, 30), (6, 0, 0, 0))
check("filter", lambda: f.setsockopt(1, 26, udpf[1]))
udp(b"y" * 50)
check("only udp, cut", lambda: frames(f, 1))
check("statistics of filtered", lambda: struct.unpack("II", f.getsockopt(SOLP, 6, 8)))
check("get filter count", lambda: (lambda n: (call(55, f.fileno(), 1, 26, None, n), n[0]))((ctypes.c_int * 1)(0)))
check("get filter", lambda: (lambda b, n: (call(55, f.fileno(), 1, 26, b, n), n[0], b.raw == udpf[0].raw[:32])[1:])(ctypes.create_string_buffer(32), (ctypes.c_int * 1)(4)))
check("get filter short", lambda: (lambda b, n: call(55, f.fileno(), 1, 26, b, n))(ctypes.create_string_buffer(32), (ctypes.c_int * 1)(3)))
check("detach", lambda: f.setsockopt(1, 27, 0))
check("detach again", lambda: f.setsockopt(1, 27, 0))
check("bad program", lambda: f.setsockopt(1, 26, prog((0, 0, 0, 1))[1]))
check("empty program", lambda: f.setsockopt(1, 26, struct.pack("HxxxxxxQ", 0, 0)))
check("short fprog", lambda: f.setsockopt(1, 26, b"\0" * 8))
check("bad pointer", lambda: f.setsockopt(1, 26, struct.pack("HxxxxxxQ", 1, 8)))
anc = [prog((0x20, 0, 0, 0xfffff000 + k), (0x15, 0, 1, v), (6, 0, 0, 999), (6, 0, 0, 0)) for k, v in ((0, 0x800), (4, 0), (8, 1), (28, 772), (52, 42))]
for n, p in enumerate(anc):
    check(f"ancillary {n}", lambda: (f.setsockopt(1, 26, p[1]), udp(), outcome(lambda: len(f.recv(200, NOW))), outcome(lambda: len(f.recv(200, NOW))))[2:])
check("cooked offsets", lambda: (lambda q, p: (q.setsockopt(1, 26, p[1]), udp(), len(q.recv(100)), outcome(q.recv, 1, NOW))[2:])(pk(DG, 0x800), prog((0x30, 0, 0, 0xfff00009), (0x15, 0, 3, 17), (0x28, 0, 0, 0xffe0000c), (0x15, 0, 1, 0x800), (6, 0, 0, 21), (6, 0, 0, 0))))
check("lock", lambda: (f.setsockopt(1, 44, 1), f.getsockopt(1, 44)))
check("locked attach", lambda: f.setsockopt(1, 26, udpf[1]))
check("locked detach", lambda: f.setsockopt(1, 27, 0))
check("unlock", lambda: f.setsockopt(1, 44, 0))
check("ebpf of no descriptor", lambda: tx.setsockopt(1, 50, 999))
check("ebpf of a file", lambda: tx.setsockopt(1, 50, tx.fileno()))
# Rings.
check("mmap without ring", lambda: mmap.mmap(tx.fileno(), 4096))


def req(*n):
    return struct.pack(f"{len(n)}I", *n)


r = pk(RAW, 0x800)
r.setsockopt(SOLP, 10, 1)
for bad in ((4096, 1, 2048, 3), (4095, 1, 2048, 1), (4096, 1, 40, 102), (4096, 1, 2040, 2), (4096, 0, 2048, 1)):
    check(f"bad ring {bad}", lambda: r.setsockopt(SOLP, 5, req(*bad)))
check("short ring", lambda: r.setsockopt(SOLP, 5, req(4096, 1)))
check("ring", lambda: r.setsockopt(SOLP, 5, req(4096, 2, 2048, 4)))
check("ring twice", lambda: r.setsockopt(SOLP, 5, req(4096, 2, 2048, 4)))
check("version busy", lambda: r.setsockopt(SOLP, 10, 2))
m = mmap.mmap(r.fileno(), 8192)
p = select.poll(); p.register(r, select.POLLIN)
check("nothing to read", lambda: p.poll(0))
for n in range(3):
    udp(bytes([n]) * 4)
wanted = []


def slot(n):
    status, length, snap, mac, net, sec, nsec = struct.unpack_from("IIIHHII", m, n * 2048)
    ll = struct.unpack_from("HHiHBB", m, n * 2048 + 32)
    return status & 0xffff & ~0x88, length, snap, mac, net, abs(sec - time.time()) < 60, nsec < 10**9, ll, m[n * 2048 + mac + 12:n * 2048 + mac + 14].hex(), m[n * 2048 + net]


check("readable", lambda: len(p.poll(0)))
check("slots", lambda: [slot(n) for n in (0, 1)])
check("full", lambda: struct.unpack("II", r.getsockopt(SOLP, 6, 8)))
check("read of a ring", lambda: r.recv(1, NOW))
for n in range(4):
    struct.pack_into("I", m, n * 2048, 0)
udp(b"again")
check("room again", lambda: slot(0)[1:4])
m.close()
check("ring away", lambda: r.setsockopt(SOLP, 5, req(0, 0, 0, 0)))
udp()
check("queue again", lambda: len(r.recv(100)))
v = pk(RAW, 0x800)
v.setsockopt(SOLP, 10, 2)
check("ring 3", lambda: v.setsockopt(SOLP, 5, req(8192, 2, 2048, 8, 20, 0, 0)))
m3 = mmap.mmap(v.fileno(), 16384)
udp(b"block")
p = select.poll(); p.register(v, select.POLLIN)
check("block comes", lambda: len(p.poll(10000)))


def block(n):
    ver, priv, status, count, first, used, seq = struct.unpack_from("IIIIIIQ", m3, n * 8192)
    at, out = n * 8192 + first, []
    for _ in range(count):
        nxt, sec, nsec, snap, length, st, mac, net = struct.unpack_from("IIIIIIHH", m3, at)
        out.append((nxt, snap, length, mac, net, m3[at + mac + 12:at + mac + 14].hex(), m3[at + net]))
        at += nxt
    return ver, priv, status, count, first, used, seq, out


check("block", lambda: block(0))
check("statistics 3", lambda: struct.unpack("III", v.getsockopt(SOLP, 6, 12)))
as_user(lambda: check("unprivileged", lambda: socket.socket(PK, RAW, 0)))
