# MSG_ZEROCOPY over loopback, where Linux copies after all: completions in the error queue, and who may ask for them.
I4, I6, ST, DG = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
ZC, EQ, NOW, PEEK = 0x4000000, 0x2000, socket.MSG_DONTWAIT, socket.MSG_PEEK


def polled(s, want=0x7fff & ~0x4):
    p = select.poll()
    p.register(s, want)
    return [hex(e) for _, e in p.poll(0)]


def report(s, wait=True, room=100, flags=0):
    """The next one; a stream's comes when its peer has acknowledged."""
    p = select.poll()
    p.register(s, 0)
    if wait and not p.poll(10000):
        return "nothing came"
    x = outcome(s.recvmsg, room, 500, EQ | flags)
    if not isinstance(x, tuple):
        return x
    data, ancillary, flags, name = x
    return data, [(l, t, struct.unpack("IBBBBII", d[:16]), d[16:].hex()) for l, t, d in ancillary], hex(flags), name


def drain(r, n):
    while n:
        n -= len(r.recv(n))


for family in (I4, I6):
    f = "4" if family == I4 else "6"
    for kind, k in ((ST, "tcp"), (DG, "udp")):
        label = f"{f} {k}"
        s, r = pair(family, kind)
        check(f"{label} default", lambda: s.getsockopt(1, 60))
        # Who did not ask for it gets a common send, and no completion.
        check(f"{label} not asked for", lambda: (s.send(b"a" * 1000, ZC), drain(r, 1000), polled(s), report(s, False)))
        check(f"{label} set", lambda: (s.setsockopt(1, 60, 1), s.getsockopt(1, 60), outcome(s.setsockopt, 1, 60, 2), outcome(s.setsockopt, 1, 60, -1)))
        check(f"{label} one", lambda: (s.send(b"a" * 1000, ZC), drain(r, 1000), report(s), polled(s), report(s, False), s.getsockopt(1, 4)))
        check(f"{label} second", lambda: (s.send(b"a" * 1000, ZC), drain(r, 1000), report(s)))
        check(f"{label} without the flag", lambda: (s.send(b"a" * 1000), drain(r, 1000), report(s, False)))
        check(f"{label} third", lambda: (s.send(b"a" * 1000, ZC), drain(r, 1000), report(s)))
        check(f"{label} empty", lambda: (s.send(b"", ZC), outcome(r.recv, 9, NOW), polled(s), report(s, False)))
        check(f"{label} after it", lambda: (s.send(b"a", ZC), drain(r, 1), report(s), report(s, False)))
        # The accepted and the listening side.
        check(f"{label} of the other", lambda: r.getsockopt(1, 60))
        check(f"{label} off", lambda: (s.setsockopt(1, 60, 0), s.send(b"a" * 100, ZC), drain(r, 100), report(s, False)))
        s.setsockopt(1, 60, 1)
        check(f"{label} write shut", lambda: (s.shutdown(1), outcome(s.send, b"x", ZC | 0x4000), report(s, False)))
        s.close(); r.close()

# Datagrams: one after the other, taken as one range.
s, r = pair(I4, DG)
s.setsockopt(1, 60, 1)
for n in range(5):
    s.send(bytes([n]), ZC)
for n in range(5):
    r.recv(9)
check("merged", lambda: report(s))
check("nothing else", lambda: report(s, False))
check("gone", lambda: (outcome(s.send, b"x" * 70000, ZC), report(s, False)))
check("then", lambda: (s.send(b"x", ZC), r.recv(9), report(s)))
check("peek takes it", lambda: (s.send(b"x", ZC), r.recv(9), report(s, flags=PEEK), report(s, False)))
check("more", lambda: (s.send(b"x", ZC | socket.MSG_MORE), s.send(b"y", ZC), r.recv(9), report(s), report(s, False)))
s.setsockopt(17, 103, 100)
check("segments", lambda: (s.send(b"x" * 1000, ZC), [len(r.recv(999)) for _ in range(10)], report(s), report(s, False)))
# A stream that is merged with what nobody read before.
s, r = pair(I4, ST)
s.setsockopt(1, 60, 1)
for n in range(5):
    s.send(b"x" * 10, ZC)
drain(r, 50)


def last(s):
    seen = []
    while not seen or seen[-1][1][0][2][6] < 4:
        seen.append(report(s))
    return seen[0][1][0][2][5], seen[-1][1][0][2][6], {x[1][0][2][:5] for x in seen}


check("stream merged", lambda: last(s))
# Others have none of it.
for kind, protocol, name in ((socket.SOCK_RAW, 200, "raw"), (DG, 1, "ping")):
    open("/proc/sys/net/ipv4/ping_group_range", "w").write("0 1000")
    s = socket.socket(I4, kind, protocol)
    check(f"{name} set", lambda: outcome(s.setsockopt, 1, 60, 1))
    check(f"{name} get", lambda: s.getsockopt(1, 60))
s = socket.socket(I4, socket.SOCK_RAW, 200)
check("raw flag", lambda: s.sendto(b"x", ZC, ("127.0.0.1", 0)))
l = socket.socket(I4, ST); l.setsockopt(1, 60, 1); l.bind(("127.0.0.1", 0)); l.listen(1)
c = socket.create_connection(l.getsockname()); a = l.accept()[0]
check("inherited", lambda: a.getsockopt(1, 60))
u = socket.socketpair()
check("unix", lambda: (outcome(u[0].setsockopt, 1, 60, 1), outcome(u[0].send, b"x", ZC)))
