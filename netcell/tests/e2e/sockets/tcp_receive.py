"""What a stream's receiver sees: urgent data, looks, low water, truncation. Prints the same on Linux."""
import array

SIOCATMARK, FIONREAD, TCP_INQ, TCP_CM_INQ = 0x8905, 0x541B, 36, 36


def pair():
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    client = socket.create_connection(listener.getsockname())
    server, _ = listener.accept()
    listener.close()
    return client, server


def number(sock, request):
    value = array.array("i", [-1])
    fcntl.ioctl(sock, request, value)
    return value[0]


def attempt(what, function):
    try:
        print(what, function())
    except OSError as error:
        print(what, errno.errorcode[error.errno])


def ready(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP)
    return [mask for _, mask in poll.poll(200)]


def settle(sock, want):
    """Waits until so much has come."""
    while number(sock, FIONREAD) < want:
        time.sleep(0.001)


def until(sock, wanted):
    """Waits until it is ready for this."""
    while not any(mask & wanted for mask in ready(sock)):
        pass


def urgent():
    a, b = pair()
    b.setblocking(False)
    attempt("none", lambda: b.recv(10, socket.MSG_OOB))
    a.send(b"abc")
    a.send(b"d", socket.MSG_OOB)
    a.send(b"ef")
    settle(b, 3)
    until(b, select.POLLPRI)
    print("ready", ready(b), "mark", number(b, SIOCATMARK), "inq", number(b, FIONREAD))
    attempt("look", lambda: b.recv(10, socket.MSG_OOB | socket.MSG_PEEK))
    attempt("before", lambda: b.recv(2))
    attempt("stops", lambda: b.recv(10))
    print("mark", number(b, SIOCATMARK), "inq", number(b, FIONREAD))
    attempt("urgent", lambda: b.recvmsg(10, 0, socket.MSG_OOB)[0::2])
    attempt("again", lambda: b.recv(10, socket.MSG_OOB))
    print("ready", ready(b), "mark", number(b, SIOCATMARK))
    attempt("behind", lambda: b.recv(10))
    print("mark", number(b, SIOCATMARK))
    attempt("dry", lambda: b.recv(10))
    a.send(b"x", socket.MSG_OOB)
    until(b, select.POLLPRI)
    print("alone", ready(b), number(b, SIOCATMARK), number(b, FIONREAD))
    attempt("only the urgent byte", lambda: b.recv(10))
    attempt("gone", lambda: b.recv(10, socket.MSG_OOB))
    b.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    a.send(b"12")
    a.send(b"34", socket.MSG_OOB)
    a.send(b"56")
    settle(b, 6)
    attempt("inline", lambda: b.recv(10, socket.MSG_OOB))
    attempt("inline before", lambda: b.recv(10))
    print("mark", number(b, SIOCATMARK))
    attempt("inline behind", lambda: b.recv(10))
    b.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 0)
    a.send(b"pq", socket.MSG_OOB)
    a.send(b"rs", socket.MSG_OOB)
    while outcome(b.recv, 1, socket.MSG_OOB | socket.MSG_PEEK) != b"s":
        pass
    attempt("two marks", lambda: b.recv(10))
    attempt("the later", lambda: b.recv(10, socket.MSG_OOB))
    a.close()
    until(b, select.POLLRDHUP)
    attempt("end", lambda: b.recv(10))
    attempt("end urgent", lambda: b.recv(10, socket.MSG_OOB))


def low_water():
    a, b = pair()
    for value in (0, 1, 100, 5000, 1 << 30):
        b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, value)
        print("lowat", value, b.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) if value < 10000 else "")
    b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 10)
    a.send(b"12345")
    settle(b, 5)
    print("few", ready(b))
    attempt("few at once", lambda: b.recv(100, socket.MSG_DONTWAIT))
    a.send(b"1234567890")
    settle(b, 10)
    print("enough", ready(b))
    print(b.recv(100, socket.MSG_WAITALL | socket.MSG_DONTWAIT))
    b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    a.send(b"abc")
    b.settimeout(None)
    b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100000))
    attempt("wait for all", lambda: b.recv(10, socket.MSG_WAITALL))
    attempt("wait for some", lambda: b.recv(10, socket.MSG_WAITALL))


def inq():
    a, b = pair()
    print("inq", b.getsockopt(socket.IPPROTO_TCP, TCP_INQ))
    b.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
    print("inq", b.getsockopt(socket.IPPROTO_TCP, TCP_INQ))
    attempt("two", lambda: b.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 2))
    a.send(b"x" * 1000)
    settle(b, 1000)
    for size, flags in ((100, 0), (100, socket.MSG_PEEK), (900, 0)):
        data, control, flags, _ = b.recvmsg(size, 100, flags)
        told = [(level, kind, struct.unpack("i", value)) for level, kind, value in control]
        print(len(data), told, flags)
    a.close()
    data, control, flags, _ = b.recvmsg(10, 100)
    print(data, [(level, kind, struct.unpack("i", value)) for level, kind, value in control])


urgent()
low_water()
inq()


def bounds():
    """Options whose values are kept in ticks, or clamped."""
    sock = socket.socket()
    rows = {10: (0, 1, 1152, 5000, -1), 16: (0, 1, 2), 36: (0, 1, 2), 44: (999, 1000, 1001, 5555, 120000, 120001)}
    for option in (45, 46):
        rows[option] = (0, 4000, 5000, 8000, 8001, 200000, 200001)
    for option, values in rows.items():
        print(option, sock.getsockopt(socket.IPPROTO_TCP, option))
        for value in values:
            print(option, value, outcome(sock.setsockopt, socket.IPPROTO_TCP, option, value), sock.getsockopt(socket.IPPROTO_TCP, option))


def unsent():
    """TCP_NOTSENT_LOWAT: a socket whose peer reads nothing takes little more than that."""
    for low in (0, 60000):
        a, b = pair()
        a.setblocking(False)
        if low:
            a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, low)
        taken = 0
        while True:
            n = outcome(a.send, b"x" * 20000)
            if n == "EAGAIN":
                break
            taken += n
        left = struct.unpack("I", a.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 148)[144:148])[0]
        print("unsent", low, left < 150000 if low else left > 150000)


bounds()
unsent()
