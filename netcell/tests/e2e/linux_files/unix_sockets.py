import array
U = socket.AF_UNIX
ST, DG, SQ = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
NAMES = {ST: "stream", DG: "dgram", SQ: "seqpacket"}
NOWAIT, PEEK, TRUNC, WAITALL, NOSIG = socket.MSG_DONTWAIT, socket.MSG_PEEK, socket.MSG_TRUNC, socket.MSG_WAITALL, socket.MSG_NOSIGNAL


def polled(s, events=0xffff & ~0x20):
    p = select.poll()
    p.register(s.fileno(), events)
    return [hex(e) for _, e in p.poll(0)]


for kind in (ST, DG, SQ):
    n = NAMES[kind]
    a, b = socket.socketpair(U, kind)
    check(f"{n} names", lambda: (a.getsockname(), a.getpeername(), b.getsockname()))
    check(f"{n} type", lambda: [a.getsockopt(socket.SOL_SOCKET, o) for o in (socket.SO_TYPE, socket.SO_DOMAIN, socket.SO_PROTOCOL, socket.SO_ACCEPTCONN, socket.SO_ERROR)])
    a.send(b"one"), a.send(b"three")
    check(f"{n} peek", lambda: b.recv(2, PEEK))
    check(f"{n} peek trunc", lambda: b.recvmsg(2, 0, PEEK | TRUNC)[0::2])
    check(f"{n} fionread", lambda: struct.unpack("i", fcntl.ioctl(b, 0x541b, b"\0\0\0\0"))[0])
    check(f"{n} recv short", lambda: b.recvmsg(2)[0::2])
    check(f"{n} recv rest", lambda: b.recvmsg(100)[0::2])
    check(f"{n} empty", lambda: b.recv(1, NOWAIT))
    check(f"{n} zero send", lambda: (a.send(b""), outcome(b.recv, 10, NOWAIT)))
    check(f"{n} oob", lambda: a.send(b"!", socket.MSG_OOB) if kind != ST else None)
    check(f"{n} waitall", lambda: (a.send(b"ab"), a.send(b"cd"), b.recv(4, WAITALL), outcome(b.recv, 4, NOWAIT)))
    check(f"{n} sendto on connected", lambda: a.sendto(b"x", "nowhere"))
    outcome(b.recv, 10, NOWAIT)
    check(f"{n} shut read", lambda: (a.shutdown(socket.SHUT_RD), a.recv(1, NOWAIT)))
    check(f"{n} peer sends", lambda: b.send(b"x", NOSIG))
    a, b = socket.socketpair(U, kind)
    a.send(b"left")
    check(f"{n} shut write", lambda: (a.shutdown(socket.SHUT_WR), b.recv(10), outcome(b.recv, 10, NOWAIT), outcome(a.send, b"x", NOSIG)))
    check(f"{n} poll shut", lambda: (polled(a), polled(b)))
    a, b = socket.socketpair(U, kind)
    a.send(b"left")
    a.close()
    check(f"{n} closed", lambda: (polled(b), outcome(b.recv, 10, NOWAIT), outcome(b.recv, 10, NOWAIT), outcome(b.send, b"x", NOSIG)))
    a, b = socket.socketpair(U, kind)
    b.send(b"unread")
    a.close()
    check(f"{n} closed with unread", lambda: (outcome(b.recv, 10, NOWAIT), outcome(b.recv, 10, NOWAIT)))
    s = socket.socket(U, kind)
    check(f"{n} send unconnected", lambda: s.send(b"x", NOSIG))
    check(f"{n} recv unconnected", lambda: s.recv(1, NOWAIT))
    check(f"{n} shutdown unconnected", lambda: s.shutdown(socket.SHUT_RDWR))
    check(f"{n} listen unbound", lambda: s.listen())
    check(f"{n} accept not listening", lambda: s.accept())
    check(f"{n} connect missing", lambda: s.connect("missing"))
    check(f"{n} peername", lambda: s.getpeername())
    write_file("plain")
    check(f"{n} connect file", lambda: s.connect("plain"))
    check(f"{n} bind existing", lambda: s.bind("plain"))
    check(f"{n} bind in missing", lambda: s.bind("no/x"))
    check(f"{n} bind", lambda: (s.bind(f"{n}.sock"), s.getsockname(), mode(f"{n}.sock")))
    check(f"{n} bind again", lambda: s.bind(f"{n}2.sock"))
    check(f"{n} bind over", lambda: socket.socket(U, kind).bind(f"{n}.sock"))
    check(f"{n} connect not listening", lambda: socket.socket(U, kind).connect(f"{n}.sock"))
    check(f"{n} connect other type", lambda: socket.socket(U, {ST: DG, DG: SQ, SQ: ST}[kind]).connect(f"{n}.sock"))
    os.rename(f"{n}.sock", f"{n}3.sock")
    check(f"{n} name stays", s.getsockname)
    check(f"{n} renamed works", lambda: (s.listen() if kind != DG else None, socket.socket(U, kind).connect(f"{n}3.sock")))
    s.close()
    check(f"{n} closed listener", lambda: socket.socket(U, kind).connect(f"{n}3.sock"))
    check(f"{n} long name", lambda: socket.socket(U, kind).bind("x" * 108))
    check(f"{n} longer name", lambda: libc.bind(socket.socket(U, kind).detach(), struct.pack("H", 1) + b"y" * 109, 111))
    check(f"{n} bad length", lambda: call(49, socket.socket(U, kind).detach(), struct.pack("H", 1), 1))
    check(f"{n} bad family", lambda: call(49, socket.socket(U, kind).detach(), struct.pack("H", 2) + b"zz\0", 5))
    s = socket.socket(U, kind)
    check(f"{n} autobind", lambda: (call(49, s.fileno(), struct.pack("H", 1), 2), len(s.getsockname()), s.getsockname()[:1]))
    t = socket.socket(U, kind)
    check(f"{n} abstract", lambda: (t.bind(b"\0abs\0tract"), t.getsockname()))
    check(f"{n} abstract twice", lambda: socket.socket(U, kind).bind(b"\0abs\0tract"))
    t.close()
    check(f"{n} abstract freed", lambda: socket.socket(U, kind).bind(b"\0abs\0tract"))

check("bad type", lambda: socket.socket(U, 9))
check("bad protocol", lambda: socket.socket(U, ST, 5))
check("raw is dgram", lambda: socket.socket(U, socket.SOCK_RAW).getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
check("bad family", lambda: socket.socket(60, ST))
l = socket.socket(U, ST)
l.bind("l")
l.listen(1)
cs = []
for i in range(4):
    c = socket.socket(U, ST)
    c.setblocking(False)
    check(f"backlog {i}", c.connect, "l")
    cs.append(c)
check("listener poll", lambda: polled(l))
s, name = l.accept()
check("accepted", lambda: (name, s.getsockname(), s.getpeername(), cs[0].getpeername()))
cs[0].send(b"hi")
check("recvfrom name", lambda: s.recvfrom(5))
check("connect again", lambda: cs[0].connect("l"))
check("send on listener", lambda: l.send(b"x", NOSIG))
check("recv on listener", lambda: l.recv(1))
check("connect a listener", lambda: l.connect("l"))
check("relisten", lambda: l.listen(5))
l.close()
check("pending is reset", lambda: (outcome(cs[1].recv, 1), polled(cs[1])))
l = socket.socket(U, ST); l.bind(b"\0named"); l.listen()
c = socket.socket(U, ST); c.bind(b"\0client"); c.connect(b"\0named")
check("client name", lambda: l.accept()[1])
l.shutdown(socket.SHUT_RDWR)
check("accept after shutdown", lambda: l.accept())

# Datagrams.
a, b = socket.socket(U, DG), socket.socket(U, DG)
a.bind("a"), b.bind("b")
check("sendto", lambda: (a.sendto(b"to b", "b"), b.recvfrom(10)))
check("sendto missing", lambda: a.sendto(b"x", "nobody"))
a.connect("b")
check("connected send", lambda: (a.send(b"x"), b.recvfrom(9)))
b.connect("b")
check("not my peer", lambda: a.send(b"x"))
b.connect("a") if False else None
check("disconnect", lambda: (call(42, a.fileno(), struct.pack("H", 0) + b"\0" * 14, 16), outcome(a.send, b"x")))
c = socket.socket(U, DG)
c.setblocking(False)
d = socket.socket(U, DG); d.bind("d")
c.connect("d")
n = 0
try:
    while n < 1000:
        c.send(b"x"); n += 1
except OSError as e:
    check("queue limit", lambda: (n, errno.errorcode[e.errno], polled(c)))
d.recv(1)
check("room again", lambda: (polled(c), c.send(b"y")))
check("too large", lambda: c.send(b"x" * 10_000_000))
s, t = socket.socketpair(U, SQ)
s.send(b"record"), s.send(b"next")
check("seqpacket trunc", lambda: (t.recvmsg(3)[0::2], t.recvmsg(10)[0::2]))
check("dgram MSG_TRUNC length", lambda: (b.close(), (lambda p: (p[0].send(b"12345"), call(45, p[1].fileno(), ctypes.create_string_buffer(2), 2, TRUNC, None, None)))(socket.socketpair(U, DG)))[1])

# Descriptors and credentials.
a, b = socket.socketpair(U, ST)
r, w = os.pipe()


def got(sock, size=100, control=1000, flags=0):
    data, extra, flags, name = sock.recvmsg(size, control, flags)
    fds, others = [], []
    for level, kind, payload in extra:
        if kind == socket.SCM_RIGHTS:
            fds += list(array.array("i", payload[:len(payload) // 4 * 4]))
        else:
            others.append((kind, struct.unpack("iii", payload)[0] in (os.getpid(), os.getppid()) , struct.unpack("iii", payload)[1:]))
    kinds = [os.readlink(f"/proc/self/fd/{f}").split(":")[0] for f in fds]
    cloexec = [fcntl.fcntl(f, fcntl.F_GETFD) for f in fds]
    for f in fds:
        os.close(f)
    return data, kinds, cloexec, others, hex(flags)


def send(sock, data, fds):
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


check("rights", lambda: (send(a, b"fd", [r, w]), got(b)))
check("rights cloexec", lambda: (send(a, b"fd", [r]), got(b, flags=socket.MSG_CMSG_CLOEXEC)))
check("rights bad fd", send, a, b"fd", [999])
check("rights are a boundary", lambda: (a.send(b"before"), send(a, b"with", [r]), a.send(b"after"), got(b), got(b), outcome(got, b, flags=NOWAIT)))
check("rights small control", lambda: (send(a, b"x", [r, w, r]), got(b, control=socket.CMSG_LEN(8))))
check("rights no control", lambda: (send(a, b"x", [r]), got(b, control=0)))
check("rights by recv", lambda: (send(a, b"x", [r]), b.recv(5)))
check("rights peek", lambda: (send(a, b"x", [r]), got(b, flags=PEEK), got(b)))
check("too many rights", send, a, b"x", [r] * 254)
check("many rights", lambda: (send(a, b"x", [r] * 253), len(got(b, control=2000)[1])))
check("rights with part of data", lambda: (send(a, b"abcd", [r]), got(b, size=2), got(b, size=2)))
check("rights without data", send, a, b"", [r])
check("bad cmsg level", lambda: a.sendmsg([b"x"], [(socket.IPPROTO_TCP, 1, b"1234")]))
check("bad cmsg type", lambda: a.sendmsg([b"x"], [(socket.SOL_SOCKET, 77, b"1234")]))
check("short cmsg", lambda: call(46, a.fileno(), None, 0))
a, b = socket.socketpair(U, ST)
check("peercred", lambda: (lambda p, u, g: (p == os.getpid(), u, g))(*struct.unpack("iii", a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))))
check("no passcred", lambda: (a.send(b"x"), got(b)))
b.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
check("passcred", lambda: (a.send(b"x"), got(b)))
cred = lambda p, u, g: (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("iii", p, u, g))
check("given creds", lambda: (a.sendmsg([b"x"], [cred(os.getpid(), 7, 8)]), got(b)))
as_user(lambda: check("foreign creds", lambda: a.sendmsg([b"x"], [cred(os.getpid(), 0, 0)])))
as_user(lambda: check("own creds", lambda: a.sendmsg([b"x"], [cred(os.getpid(), 1000, 1000)])))
check("from child", lambda: got(b)[0])
check("bad pid creds", lambda: a.sendmsg([b"x"], [cred(4000000, 0, 0)]))
child(lambda: (send(a, b"from child", [r]), 0)[1])
check("from a dead child", lambda: got(b)[:2])


def unreadable():
    check("connect without w", lambda: socket.socket(U, ST).connect("perm"))


l = socket.socket(U, ST); l.bind("perm"); l.listen(); os.chmod("perm", 0o600)
as_user(unreadable)
for name in ("SO_SNDBUF", "SO_RCVBUF", "SO_RCVLOWAT", "SO_SNDLOWAT", "SO_REUSEADDR", "SO_KEEPALIVE", "SO_BROADCAST", "SO_OOBINLINE", "SO_PRIORITY", "SO_TIMESTAMP"):
    check(f"default {name}", lambda: l.getsockopt(socket.SOL_SOCKET, getattr(socket, name, 19 if name == "SO_SNDLOWAT" else 29)))
check("set sndbuf", lambda: (l.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10000), l.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)))
check("set sndbuf small", lambda: (l.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1), l.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)))
check("tcp option", lambda: l.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
check("unknown option", lambda: l.getsockopt(socket.SOL_SOCKET, 999))
a, b = socket.socketpair()
b.settimeout(None)
b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 0, 30000))
check("rcvtimeo", lambda: b.recv(1))
a.setblocking(False)
filled = 0
try:
    while True:
        filled += a.send(b"z" * 4096)
except BlockingIOError:
    pass
check("full", lambda: (polled(a), filled > 100000))
check("reopen through proc", lambda: opened(f"/proc/self/fd/{a.fileno()}", os.O_RDWR))
check("fstat", lambda: oct(os.fstat(a.fileno()).st_mode))
check("lseek", lambda: os.lseek(a.fileno(), 0, 0))
check("read write", lambda: (lambda p: (os.write(p[0].fileno(), b"rw"), os.read(p[1].fileno(), 9)))(socket.socketpair()))
check("sendmmsg-like", lambda: socket.has_dualstack_ipv6())
