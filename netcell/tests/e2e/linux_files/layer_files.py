# What lies in the directory of the host before the layer is put above it.
import os
os.umask(0o022)
for name, data in [("plain", b"lower"), ("append", b"abc"), ("mapped", b"m" * 5000), ("linked1", b"links"), ("trunc", b"long content"), ("old", b"old"), ("gone", b"gone"), ("moved", b"moved"), ("xattr", b"x"), ("mode", b"m"), ("shared", b"S" * 8192), ("locked", b"l"), ("over", b"over"), ("exe", b"#!/bin/sh\necho ran\n")]:
    with open(name, "wb") as f:
        f.write(data)
os.chmod("exe", 0o755)
os.chmod("mode", 0o4711)
os.link("linked1", "linked2")
os.utime("old", (1000000000, 1100000000))
os.symlink("plain", "link")
os.makedirs("dir/sub/deep")
for i in range(5):
    with open(f"dir/f{i}", "w") as f:
        f.write(str(i))
with open("dir/sub/deep/x", "w") as f:
    f.write("x")
os.mkdir("empty")
os.mkdir("full")
open("full/one", "w").close()
os.mkdir("replaced")
open("replaced/inner", "w").close()
os.makedirs("emptied/a")
os.mkfifo("fifo")
try:
    os.setxattr("xattr", "user.test", b"value")
except OSError:
    pass
