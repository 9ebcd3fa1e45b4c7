BENEATH, IN_ROOT, NO_MAGIC, NO_SYM, NO_XDEV, CACHED = 8, 16, 2, 4, 1, 32


def openat2(path, resolve, flags=os.O_RDONLY, create=0, dirfd=AT_FDCWD, size=24):
    how = struct.pack("QQQ", flags, create, resolve) + b"\0" * 8
    fd = call(437, dirfd, path.encode(), how[:max(size, 24)], size)
    result = os.readlink(f"/proc/self/fd/{fd}").rsplit("/", 1)[-1]
    os.close(fd)
    return result


os.makedirs("base/top/a/b")
os.chdir("base")
write_file("outside")
write_file("top/f")
os.symlink("../f", "top/a/up")
os.symlink("../../outside", "top/a/out")
os.symlink("/f", "top/absolute")
os.symlink("f", "top/plain")
os.symlink(os.getcwd() + "/top/f", "top/full")
top = os.open("top", os.O_PATH)
for name, resolve in [("none", 0), ("beneath", BENEATH), ("in_root", IN_ROOT), ("no_symlinks", NO_SYM), ("no_magic", NO_MAGIC), ("no_xdev", NO_XDEV)]:
    for path in ["f", "a/../f", "a/up", "a/out", "plain", "absolute", "full", "../outside", "..", "a/..", "/f", "a/b/../../../top/f", "/proc/self/cwd", "/proc/self/exe", "/proc/version"]:
        if name == "in_root" and path in ("..", "/f") or not path.startswith("/proc") or name in ("no_magic", "no_symlinks", "no_xdev", "beneath"):
            check(f"{name} {path}", openat2, path, resolve, dirfd=top, flags=os.O_PATH if path.startswith("/proc") else os.O_RDONLY)
check("unknown resolve", openat2, "f", 1 << 10)
check("beneath and in_root", openat2, "f", BENEATH | IN_ROOT)
check("short size", openat2, "f", 0, size=16)
check("unknown flag", openat2, "top/f", 0, flags=1 << 40)
check("mode without creat", openat2, "top/f", 0, create=0o644)
check("mode too large", openat2, "top/n", 0, flags=os.O_CREAT | os.O_WRONLY, create=0o10644)
check("creat", openat2, "top/n", 0, flags=os.O_CREAT | os.O_WRONLY, create=0o600)
check("its mode", mode, "top/n")
check("creat beneath", openat2, "a/made", BENEATH, flags=os.O_CREAT | os.O_WRONLY, create=0o600, dirfd=top)
check("creat out of beneath", openat2, "../made", BENEATH, flags=os.O_CREAT | os.O_WRONLY, create=0o600, dirfd=top)
check("path with others", openat2, "top/f", 0, flags=os.O_PATH | os.O_RDWR)
check("larger size of zeros", openat2, "top/f", 0, size=32)
check("larger size not zero", lambda: call(437, AT_FDCWD, b"top/f", struct.pack("QQQQ", 0, 0, 0, 1), 32))
