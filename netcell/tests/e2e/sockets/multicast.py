# Groups over loopback: who hears what, what /proc/net lists of them, and how a host's sockets want sources together.
I4, I6, DG, IP, IP6 = socket.AF_INET, socket.AF_INET6, socket.SOCK_DGRAM, 0, 41
NOW = socket.MSG_DONTWAIT
L = socket.inet_aton("127.0.0.1")


def a4(x):
    return socket.inet_aton(x)


def a6(x):
    return socket.inet_pton(I6, x)


def listed(name, wanted=None):
    """The lines about groups that were joined here; of a device only what does not depend on the host."""
    lines = open("/proc/net/" + name).read().splitlines()
    return [x for x in lines if wanted is None or any(w in x for w in wanted)]


def hearer(family=I4):
    s = socket.socket(family, DG)
    s.setsockopt(1, 2, 1)
    s.bind(("", 7777))
    return s


def say(group, src="127.0.0.1"):
    s = socket.socket(I4, DG)
    s.bind((src, 0))
    s.setsockopt(IP, 32, L)
    s.sendto(src.encode(), (group, 7777))


def heard(*sockets):
    return [outcome(s.recv, 99, NOW) for s in sockets]


G = a4("239.1.2.3")
a, b = hearer(), hearer()
check("nobody", lambda: (say("239.1.2.3"), heard(a, b)))
check("one", lambda: (a.setsockopt(IP, 35, G + L), say("239.1.2.3"), heard(a, b)))
b.setsockopt(IP, 49, 0)
check("its own alone", lambda: (say("239.1.2.3"), heard(a, b)))
check("both", lambda: (b.setsockopt(IP, 39, G + L + a4("127.0.0.7")), say("239.1.2.3"), say("239.1.2.3", "127.0.0.7"), heard(a, b), heard(a, b)))
check("igmp", lambda: listed("igmp", ("lo", "EF", "E0", "Idx")))
check("mcfilter", lambda: listed("mcfilter"))
check("blocked", lambda: (a.setsockopt(IP, 38, G + L + a4("127.0.0.7")), a.setsockopt(IP, 38, G + L + a4("127.0.0.8")), listed("mcfilter")))
check("heard again", lambda: (say("239.1.2.3", "127.0.0.7"), say("239.1.2.3", "127.0.0.9"), heard(a, b), heard(a, b)))
check("left", lambda: (a.setsockopt(IP, 36, G + L), listed("mcfilter"), listed("igmp", ("EF",))))
check("closed", lambda: (b.close(), listed("mcfilter"), listed("igmp", ("EF",))))
check("unblocked", lambda: (a.setsockopt(IP, 35, G + L), outcome(a.setsockopt, IP, 37, G + L + a4("127.0.0.7")), a.setsockopt(IP, 36, G + L)))
# Twenty groups are the most of a socket.
check("many", lambda: [outcome(a.setsockopt, IP, 35, a4(f"239.2.0.{n}") + L) for n in range(22)][-4:])
check("many listed", lambda: (len(listed("igmp", ("EF",))), listed("igmp", ("lo",))))
a.close()
check("none listed", lambda: len(listed("igmp", ("EF",))))
# Loops and hops.
c = hearer(); c.setsockopt(IP, 35, G + L)
t = socket.socket(I4, DG); t.setsockopt(IP, 32, L)
check("defaults", lambda: [t.getsockopt(IP, o) for o in (33, 34, 49)])
check("no loop", lambda: (t.setsockopt(IP, 34, 0), t.sendto(b"x", ("239.1.2.3", 7777)), heard(c)))
check("hops", lambda: (t.setsockopt(IP, 34, 1), t.setsockopt(IP, 33, 0), c.setsockopt(IP, 12, 1), t.sendto(b"x", ("239.1.2.3", 7777)), [(l, k, d.hex()) for l, k, d in c.recvmsg(9, 99, NOW)[1]] if False else heard(c)))
check("told", lambda: (t.setsockopt(IP, 33, 9), c.setsockopt(IP, 8, 1), t.sendto(b"x", ("239.1.2.3", 7777)), [(l, k, d.hex()) for l, k, d in c.recvmsg(9, 99)[1]]))
check("interface", lambda: (t.getsockopt(IP, 32, 4).hex(), outcome(t.setsockopt, IP, 32, a4("9.9.9.9")), t.setsockopt(IP, 32, bytes(4)), t.getsockopt(IP, 32, 4).hex()))
check("to nowhere", lambda: outcome(socket.socket(I4, DG).sendto, b"x", ("239.1.2.3", 7777)))
c.close()
# IPv6.
index = struct.pack("i", 1)
d, e = hearer(I6), hearer(I6)
check("6 join", lambda: d.setsockopt(IP6, 20, a6("ff05::7") + index))
check("6 igmp6", lambda: listed("igmp6", (" lo ",)))
store = lambda x: struct.pack("=HHI16sI", I6, 0, 0, a6(x), 0).ljust(128, b"\0")
req = lambda g, s: struct.pack("I4x", 1) + store(g) + store(s)
check("6 source", lambda: (e.setsockopt(IP6, 46, req("ff05::8", "::1")), listed("mcfilter6")))
check("6 other source", lambda: (e.setsockopt(IP6, 46, req("ff05::8", "fd00::1")), e.setsockopt(IP6, 47, req("ff05::8", "::1")), listed("mcfilter6")))
check("6 blocked", lambda: (d.setsockopt(IP6, 43, req("ff05::7", "::1")), sorted(listed("mcfilter6"))))
check("6 left", lambda: (d.setsockopt(IP6, 21, a6("ff05::7") + index), e.close(), listed("igmp6", ("ff05",)), listed("mcfilter6")))
check("6 twice", lambda: (d.setsockopt(IP6, 20, a6("ff05::7") + index), outcome(d.setsockopt, IP6, 20, a6("ff05::7") + index), outcome(d.setsockopt, IP6, 21, a6("ff05::9") + index)))
many = struct.pack("I4x", 1) + store("ff05::7") + struct.pack("II", 0, 64) + b"".join(store(f"fd00::{n}") for n in range(1, 65))
check("6 whole filter", lambda: (d.setsockopt(IP6, 48, many), len(listed("mcfilter6"))))
check("dev_mcast", lambda: listed("dev_mcast", (" lo ",)))
