# Groups of sockets that share a port, and programs that choose among them (socket(7), SO_REUSEPORT, SO_ATTACH_REUSEPORT_CBPF).
I4 = socket.AF_INET


def prog(*rows):
    code = b"".join(struct.pack("HBBI", *r) for r in rows)
    buf = ctypes.create_string_buffer(code)
    return buf, struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(buf))


# The first byte of the payload is the number.
p = prog((0x30, 0, 0, 0), (0x16, 0, 0, 0))
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_RAW):
    s=socket.socket(I4,kind, 200 if kind==socket.SOCK_RAW else 0)
    check(f"{kind} without reuse", lambda: (outcome(s.setsockopt, 1, 51, p[1]), outcome(s.setsockopt, 1, 68, 0)))
    check(f"{kind} reuse", lambda: (s.setsockopt(1, 15,1), outcome(s.setsockopt, 1, 68, 0), outcome(s.setsockopt, 1, 51, p[1]), outcome(s.setsockopt, 1, 51, p[1]), outcome(s.setsockopt, 1, 68, 0), outcome(s.setsockopt, 1, 68, 0), outcome(s.getsockopt, 1, 51)))
    s=socket.socket(I4,kind, 200 if kind==socket.SOCK_RAW else 0)
    s.bind(("127.0.0.1", 0)); s.setsockopt(1, 15,1)
    check(f"{kind} after bind", lambda: (outcome(s.setsockopt, 1, 51, p[1]), outcome(s.setsockopt, 1, 68, 0)))


def member():
    s = socket.socket(I4, socket.SOCK_DGRAM)
    s.setsockopt(1,  15, 1)
    s.bind(("127.0.0.1", 7777))
    return s


g = [member() for _ in range(3)]
c = socket.socket(I4, socket.SOCK_DGRAM)


def told(n):
    c.sendto(bytes([n]),("127.0.0.1",7777))
    return [i for i,s in enumerate(g) if isinstance(outcome(s.recv, 9, socket.MSG_DONTWAIT), bytes)]


check("chosen", lambda: (g[1].setsockopt(1, 51, p[1]), [told(n) for n in (0,1,2,1)], told(3)==told(200)))
check("first closes", lambda: (g.pop(0).close(), [told(n) for n in (0,1)]))
check("detach", lambda: (g[0].setsockopt(1, 68, 0), outcome(g[1].setsockopt, 1, 68, 0), told(0)==told(1)))
