"""Publishes a process context as OTEP 4719 asks for, without an SDK: a private
mapping of a memfd, or an anonymous one where the kernel names those. Prints the
time of publication: it stays 0 if it is to be writing."""
import ctypes
import mmap
import os
import struct
import sys
import time


def field(number, content):
    size, prefix = len(content), bytes([number << 3 | 2])
    while size > 127:
        prefix, size = prefix + bytes([size & 127 | 128]), size >> 7
    return prefix + bytes([size]) + content


def attribute(key, value):
    return field(1, key.encode()) + field(2, value)


def text(value):
    return field(1, value.encode())


kind = sys.argv[1]
resource = b"".join(
    field(1, attribute(key, value))
    for key, value in [
        ("service.name", text("checkout")),
        ("service.instance.id", text("6a1e-42" * 40)),
        ("process.pid", b"\x18\x2a"),  # an integer
    ]
)
payload = field(1, resource) + field(2, attribute("threadlocal.schema_version", text("tlsdesc_v1_dev")))

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
if kind == "anonymous":
    address = libc.mmap(None, 4096, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
else:
    decoy = os.memfd_create("OTEL_CTX", os.MFD_CLOEXEC)  # one that is no context
    os.ftruncate(decoy, 4096)
    libc.mmap(0x10000000, 4096, 3, mmap.MAP_PRIVATE, decoy, 0)
    fd = os.memfd_create("OTEL_CTX", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    address = libc.mmap(None, 4096, 3, mmap.MAP_PRIVATE, fd, 0)
    os.close(fd)

nanos = 0 if kind == "writing" else time.clock_gettime_ns(time.CLOCK_BOOTTIME)
ctypes.memmove(address + 64, payload, len(payload))
ctypes.memmove(address, struct.pack("=8sIIQQ", b"OTEL_CTX", 2, len(payload), nanos, address + 64), 32)
libc.prctl(0x53564D41, 0, ctypes.c_void_p(address), 4096, b"OTEL_CTX")  # PR_SET_VMA
print(nanos, "named" if "[anon:OTEL_CTX]" in open("/proc/self/maps").read() else "unnamed")
print("ready", flush=True)
sys.stdin.read()
