# SPDX-License-Identifier: GPL-2.0
"""System calls for the cases, and a way to print how they end."""

import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW = -100, 0x1000, 0x400, 0x100


def checked(function):
    """A function of the C library that raises OSError where that returns -1."""

    def call(*words):
        ctypes.set_errno(0)
        words = [word.encode() if isinstance(word, str) else word for word in words]
        result = function(*words)
        if result == -1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    return call


def system_call(number, *words):
    """Any system call; whole numbers are passed in 64 bits."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    return checked(libc.syscall)(ctypes.c_long(number), *words)


def tried(label, function, *words, show=True, **options):
    """Call, print how it ended, and return the result (None: an error)."""
    try:
        result = function(*words, **options)
    except OSError as error:
        print(label, errno.errorcode.get(error.errno, error.errno))
        return None
    except ValueError as error:
        print(label, "ValueError")
        return None
    print(label, "ok", result if show and isinstance(result, (int, bytes, str, list, tuple)) else "")
    return result


def holes(fd):
    """Where a file has data: a list of (start, end)."""
    found, at, size = [], 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, at))
    return found


def as_user(uid, function, *words):
    """Call in a child that is another user; its errno comes back as this one's error."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            function(*words)
        except OSError as error:
            code = error.errno
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


fallocate = checked(libc.fallocate)
fallocate_types = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
libc.fallocate.argtypes = fallocate_types
