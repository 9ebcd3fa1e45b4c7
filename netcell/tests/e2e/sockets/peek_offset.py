"""SO_PEEK_OFF of local sockets: where looks begin, and what moves that."""
import socket, errno
def attempt(what):
    try: return what()
    except OSError as e: return errno.errorcode[e.errno]
OFF = 42
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
    a, b = socket.socketpair(socket.AF_UNIX, kind); b.setblocking(False)
    get = lambda: b.getsockopt(socket.SOL_SOCKET, OFF)
    put = lambda n: attempt(lambda: b.setsockopt(socket.SOL_SOCKET, OFF, n))
    peek = lambda n, flags=0: attempt(lambda: b.recv(n, socket.MSG_PEEK | flags))
    print(kind.name, get(), put(0), get())
    for part in (b'hello', b'world!', b'xyz'): a.send(part)
    print([(peek(3), get()) for _ in range(7)])
    print(attempt(lambda: b.recv(4)), get(), peek(4), get()); print(put(2), peek(100), get(), peek(9), get())
    print(put(7), peek(2), get(), attempt(lambda: b.recv(100)), get()); print(put(0), peek(2, socket.MSG_TRUNC), get()); print(put(-1), peek(3), peek(3), get(), put(-5), get(), peek(1))
    print(put(100), peek(3), get()); a.send(b'q' * 200); print(peek(3), get(), attempt(lambda: len(b.recv(300))), get())
    a.send(b''); print(put(0), peek(3), get(), peek(3), get(), attempt(lambda: b.recv(3)), get())
    a.close(); print(peek(3), get(), put(0), peek(3), get())
