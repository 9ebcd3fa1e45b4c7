# What is told with a message and what a message can ask for: control messages of ip(7), ipv6(7) and RFC 3542, over loopback.
I4, I6, DG, RAW, IP, IP6 = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, socket.SOCK_RAW, 0, 41
NOW = socket.MSG_DONTWAIT


def pair(family, to=None):
    a = to or ("127.0.0.1" if family == I4 else "::1")
    r = socket.socket(family, DG)
    r.bind(("" if to else a, 0))
    s = socket.socket(family, DG)
    s.connect((a, r.getsockname()[1]))
    return s, r


def got(r, n=1, room=2000):
    out = []
    for _ in range(n):
        x = outcome(r.recvmsg, room, 3000, NOW)
        out.append(([(l, t, d.hex() if t not in (20, 74, 11) else len(d)) for l, t, d in x[1]], x[2]) if isinstance(x, tuple) else x)
    return out if n > 1 else out[0]


def each(family, level, names, value=1):
    s, r = pair(family)
    for name in names:
        check(f"{family == I6} {level} {name}", lambda: (r.getsockopt(level, name), r.setsockopt(level, name, value), r.getsockopt(level, name), s.send(b"x"), got(r), r.setsockopt(level, name, 0), s.send(b"x"), got(r)))


def cmsg(level, kind, data):
    return [(level, kind, data)]


def i(n):
    return struct.pack("i", n)


# One after the other, and together, which shows their order.
each(I4, IP, (6, 7, 8, 12, 13, 18, 20, 23, 25))
each(I6, IP6, (49, 51, 53, 56, 58, 60, 66, 74, 77, 11))
each(I6, IP6, (2, 3, 4, 5, 8))
each(I6, IP, (8, 12, 13))
s, r = pair(I4)
for name in (8, 12, 13, 20, 6, 7):
    r.setsockopt(IP, name, 1)
check("4 all", lambda: (s.send(b"x"), got(r)))
s, r = pair(I6)
for name in (49, 51, 53, 66, 56, 58, 11, 74, 2, 8):
    r.setsockopt(IP6, name, 1)
check("6 all", lambda: (s.setsockopt(IP6, 70, 0), s.send(b"x"), got(r)))
# An IPv6 socket that hears IPv4.
m = socket.socket(I6, DG); m.bind(("::", 0))
for name in (49, 51, 66):
    m.setsockopt(IP6, name, 1)
s4 = socket.socket(I4, DG); s4.connect(("127.0.0.1", m.getsockname()[1]))
check("mapped", lambda: (s4.send(b"x"), got(m)))
for name in (8, 12, 13):
    m.setsockopt(IP, name, 1)
check("mapped, both levels", lambda: (s4.send(b"x"), got(m)))
# What a send asks for alone.
s, r = pair(I4)
for name in (8, 12, 13):
    r.setsockopt(IP, name, 1)
for label, control in (("ttl", cmsg(IP, 2, i(7))), ("ttl 0", cmsg(IP, 2, i(0))), ("ttl 256", cmsg(IP, 2, i(256))), ("ttl byte", cmsg(IP, 2, b"\7")), ("tos", cmsg(IP, 1, i(0x10))), ("tos byte", cmsg(IP, 1, b"\x14")), ("tos 256", cmsg(IP, 1, i(256))), ("src", cmsg(IP, 8, struct.pack("i4s4s", 0, socket.inet_aton("127.0.0.5"), bytes(4)))), ("nic", cmsg(IP, 8, struct.pack("i4s4s", 1, bytes(4), bytes(4)))), ("no nic", cmsg(IP, 8, struct.pack("i4s4s", 77, bytes(4), bytes(4)))), ("foreign", cmsg(IP, 8, struct.pack("i4s4s", 0, socket.inet_aton("9.9.9.9"), bytes(4)))), ("short", cmsg(IP, 8, bytes(11))), ("long", cmsg(IP, 8, bytes(13))), ("protocol", cmsg(IP, 52, i(17))), ("unknown", cmsg(IP, 99, i(1))), ("other level", cmsg(77, 99, i(1))), ("of IPv6", cmsg(IP6, 67, i(1)))):
    check(f"4 send {label}", lambda: (s.sendmsg([b"x"], control), got(r)))
check("4 send src unconnected", lambda: (lambda u: (u.sendmsg([b"x"], cmsg(IP, 8, struct.pack("i4s4s", 0, socket.inet_aton("127.0.0.5"), bytes(4))), 0, r.getsockname()), r.recvfrom(9)[1][0]))(socket.socket(I4, DG)))
check("mark", lambda: (s.sendmsg([b"x"], cmsg(1, 36, i(7))), outcome(s.sendmsg, [b"x"], cmsg(1, 36, b"x")), got(r, 2)))
check("priority", lambda: (s.sendmsg([b"x"], cmsg(1, 12, i(5))), outcome(s.sendmsg, [b"x"], cmsg(1, 12, i(7))), got(r, 2)))
check("txtime", lambda: outcome(s.sendmsg, [b"x"], cmsg(1, 61, bytes(8))))
check("unknown of socket", lambda: outcome(s.sendmsg, [b"x"], cmsg(1, 99, bytes(8))))
check("rights", lambda: (s.sendmsg([b"x"], cmsg(1, 1, i(0))), got(r)))
check("credentials", lambda: (s.sendmsg([b"x"], cmsg(1, 2, struct.pack("iii", os.getpid(), 0, 0))), got(r)))
s.setsockopt(1, 12, 5); r.setsockopt(1, 82, 1)
check("receive priority", lambda: (r.getsockopt(1, 82), s.send(b"x"), got(r)))
s.setsockopt(1, 36, 9); r.setsockopt(1, 75, 1)
check("receive mark", lambda: (r.getsockopt(1, 75), s.send(b"x"), got(r)))
s, r = pair(I6)
s.setsockopt(IP6, 70, 0)
for name in (49, 51, 66):
    r.setsockopt(IP6, name, 1)
one = socket.inet_pton(I6, "::1")
for label, control in (("hops", cmsg(IP6, 52, i(7))), ("hops -1", cmsg(IP6, 52, i(-1))), ("hops 256", cmsg(IP6, 52, i(256))), ("hops byte", cmsg(IP6, 52, b"\7")), ("old hops", cmsg(IP6, 8, i(9))), ("class", cmsg(IP6, 67, i(0x20))), ("class -1", cmsg(IP6, 67, i(-1))), ("class 256", cmsg(IP6, 67, i(256))), ("info", cmsg(IP6, 50, struct.pack("16si", one, 1))), ("old info", cmsg(IP6, 2, struct.pack("16si", one, 1))), ("foreign", cmsg(IP6, 50, struct.pack("16si", socket.inet_pton(I6, "2001:db8::1"), 0))), ("no nic", cmsg(IP6, 50, struct.pack("16si", bytes(16), 77))), ("short", cmsg(IP6, 50, bytes(19))), ("dontfrag", cmsg(IP6, 62, i(1))), ("unknown", cmsg(IP6, 99, i(1)))):
    check(f"6 send {label}", lambda: (s.sendmsg([b"x"], control), got(r)))
# Extension headers, for one message and for all.
s, r = pair(I6)
s.setsockopt(IP6, 70, 0)
for name in (53, 56, 58):
    r.setsockopt(IP6, name, 1)
pad = bytes([0, 0, 1, 4, 0, 0, 0, 0])
long = bytes([0, 1, 1, 12]) + bytes(12)
options = bytes([0, 0, 0x1e, 2, 7, 7, 1, 0])
sr = bytes([0, 2, 4, 0, 0, 0, 0, 0]) + one
home = bytes([0, 2, 2, 1, 0, 0, 0, 0]) + one
for label, control in (("hop", cmsg(IP6, 54, pad)), ("hop long", cmsg(IP6, 54, long)), ("destination", cmsg(IP6, 59, pad)), ("before routing", cmsg(IP6, 55, pad)), ("both", cmsg(IP6, 54, pad) + cmsg(IP6, 59, long)), ("twice", cmsg(IP6, 54, pad) + cmsg(IP6, 54, pad)), ("twice d", cmsg(IP6, 59, pad) + cmsg(IP6, 59, pad)), ("hop short", cmsg(IP6, 54, pad[:7])), ("hop of wrong length", cmsg(IP6, 54, bytes([0, 1]) + pad[2:])), ("hop with option", cmsg(IP6, 54, options)), ("old hop", cmsg(IP6, 3, pad)), ("old destination", cmsg(IP6, 4, pad)), ("routing 0", cmsg(IP6, 57, bytes([0, 2, 0, 1, 0, 0, 0, 0]) + one)), ("routing 2", cmsg(IP6, 57, home)), ("routing 3", cmsg(IP6, 57, bytes([0, 2, 3, 1, 0, 0, 0, 0]) + one)), ("routing 4", cmsg(IP6, 57, sr)), ("none", cmsg(IP6, 54, b""))):
    check(f"6 extension {label}", lambda: (s.sendmsg([b"x"], control), got(r)))
for name, value in ((54, pad), (59, long), (55, pad), (57, home)):
    check(f"6 sticky {name}", lambda: (s.getsockopt(IP6, name, 100), s.setsockopt(IP6, name, value), s.getsockopt(IP6, name, 100).hex(), s.send(b"x"), got(r)))
check("6 sticky all", lambda: [(s.send(b"x"), got(r))])
check("6 sticky and message", lambda: (s.sendmsg([b"x"], cmsg(IP6, 54, long)), got(r)))
check("6 sticky wrong", lambda: [outcome(s.setsockopt, IP6, 54, v) for v in (pad[:7], bytes([0, 1]) + pad[2:], b"x", bytes(2049))])
check("6 sticky off", lambda: ([s.setsockopt(IP6, n, b"") for n in (54, 59, 55, 57)], s.send(b"x"), got(r)))
check("6 sticky of a user", lambda: as_user(lambda: print([outcome(s.setsockopt, IP6, n, pad) for n in (54, 59, 55)], outcome(s.sendmsg, [b"x"], cmsg(IP6, 54, pad)), outcome(s.sendmsg, [b"x"], cmsg(IP6, 57, home)))))
# The path's MTU is news (RFC 3542 section 11).
check("6 path mtu", lambda: (len(s.getsockopt(IP6, 61, 32)), s.getsockopt(IP6, 61, 32).hex(), outcome(r.getsockopt, IP6, 61, 32)))
f = socket.socket(I6, DG)
fcntl.ioctl(f, 0x8922, struct.pack("16si20x", b"lo", 1500))
f.setsockopt(IP6, 60, 1); f.setsockopt(IP6, 62, 1)
check("6 too long", lambda: (outcome(f.sendto, b"x" * 2000, ("::1", 9)), got(f), got(f)))
f.setsockopt(IP6, 25, 1)
check("6 too long, and errors are asked for", lambda: (outcome(f.sendto, b"x" * 2000, ("::1", 9)), got(f)))
# The largest fragment.
s, r = pair(I4)
r.setsockopt(IP, 25, 1)
check("4 fragments", lambda: (s.setsockopt(IP, 10, 0), s.send(b"x" * 3000), got(r, room=4000), s.send(b"x" * 30), got(r)))
s, r = pair(I6)
r.setsockopt(IP6, 77, 1)
check("6 fragments", lambda: (s.setsockopt(IP6, 23, 0), s.send(b"x" * 3000), got(r, room=4000), s.send(b"x" * 30), got(r)))
s.setsockopt(IP6, 24, 1300)
check("6 fragments of a size", lambda: (s.getsockopt(IP6, 24), s.send(b"x" * 3000), got(r, room=4000)))
# Options of IPv4 come along, and back.
s, r = pair(I4)
for name in (6, 7):
    r.setsockopt(IP, name, 1)
record, stamp = bytes([7, 11, 4]) + bytes(8) + b"\1", bytes([68, 12, 5, 0]) + bytes(8)
check("4 record route", lambda: (s.setsockopt(IP, 4, record), s.getsockopt(IP, 4, 40).hex(), s.send(b"x"), got(r)))
check("4 options by message", lambda: (s.setsockopt(IP, 4, b""), s.sendmsg([b"x"], cmsg(IP, 7, record)), got(r)))
check("4 options by message, wrong", lambda: s.sendmsg([b"x"], cmsg(IP, 7, b"\x07\x02")))
# The least hops that are taken.
s, r = pair(I4)
check("4 least hops", lambda: (r.setsockopt(IP, 21, 65), s.send(b"x"), got(r), r.setsockopt(IP, 21, 64), s.send(b"x"), got(r)))
s, r = pair(I6)
check("6 least hops", lambda: (r.setsockopt(IP6, 73, 65), s.send(b"x"), got(r), r.setsockopt(IP6, 73, 64), s.send(b"x"), got(r)))
# Which processor.
s, r = pair(I4)
check("processor", lambda: (r.getsockopt(1, 49) == 0xffffffff or r.getsockopt(1, 49) >= -1, r.setsockopt(1, 49, 0), r.getsockopt(1, 49), s.send(b"x"), got(r)))
