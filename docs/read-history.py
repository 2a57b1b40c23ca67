#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0 OR MIT
"""Read a file's earlier versions from a LoggerFS history, as docs/format.md defines it.

read-history.py HISTORY FILE [INODE]         list the operations on FILE, oldest first
read-history.py HISTORY FILE [INODE] @SEQ    write FILE's content before operation SEQ to stdout
FILE: the present file, a removed file's entry in orphans/, or a copy of either with the original's INODE."""
import os, struct, sys

CONTENT = "write copy clone truncate mmap punch zero allocate collapse insert revert redo".split()
ATTRIBUTES = "setattr setxattr setacl setflags".split()
TABLE = list(range(256))
for _ in range(8):
    TABLE = [n >> 1 ^ 0x82F63B78 * (n & 1) for n in TABLE]

def crc32c(data, before=0):
    state = before ^ 0xFFFFFFFF
    for byte in data:
        state = TABLE[(state ^ byte) & 255] ^ state >> 8
    return state ^ 0xFFFFFFFF

def lines(history):
    """All lines with their positions, oldest first: the five fields and the keys of each line."""
    head = dict(word.split("=") for word in open(f"{history}/format").read().split()[1:])
    assert head["version"] == "1", "this reader knows version 1 only"
    for segment, name in sorted((int(name[:-4]), name) for name in os.listdir(f"{history}/log")):
        seed, offset = crc32c(bytes.fromhex(head["uuid"]) + struct.pack("<Q", segment)), 0
        for raw in open(f"{history}/log/{name}", "rb"):
            body, _, tail = raw.rpartition(b" sum=")
            if len(raw) <= 4096 and tail == b"%08x\n" % crc32c(body, seed):
                words = body.decode("ascii").split(" ")
                line = dict(zip(("TIME", "COMMAND", "OP", "OFFSET", "LENGTH"), words))
                line.update(word.split("=", 1) for word in words[5:])
                yield f"{segment}:{offset}", line
            offset += len(raw)

def take_back(history, line, data):
    """Takes one operation back: first restores the payload, then the size."""
    assert line["undo"] != "lost", f"the old state of operation {line['seq']} was not saved"
    if line["undo"] != "none":
        segment, offset, length = map(int, line["undo"].replace("+", ":").split(":"))
        with open(f"{history}/undo/{segment:08}.dat", "rb") as file:
            file.seek(offset)
            payload = file.read(length)
        assert crc32c(payload) == int(line["crc"], 16), f"the payload of {line['seq']} is damaged"
        at = 16 * int(line.get("map", 0))
        length -= at + int(line.get("attrs", 0))
        records = payload[:at] or struct.pack("<QQ", int(line["OFFSET"]), length)
        for start, size in struct.iter_unpack("<QQ", records):
            start, size, is_hole = start % 2**63, size % 2**63, size >> 63
            data.extend(bytes(max(0, start + size - len(data))))
            data[start : start + size] = bytes(size) if is_hole else payload[at : at + size]
            at += 0 if is_hole else size
    del data[int(line["size"]) :]
    data.extend(bytes(int(line["size"]) - len(data)))

def main(history, file, *words):
    seq = words[-1][1:] if words and words[-1][0] == "@" else None
    inode = words[0] if words and words[0][0] != "@" else str(os.stat(file).st_ino)
    known = dict(lines(history))
    at = [at for at, line in known.items() if line.get("obj", ".").split(".")[-2] == inode][-1:]
    chain = []
    while at and at[0] in known:
        chain.append(known[at[0]])
        at = [chain[-1]["prev"]] if "prev" in chain[-1] else []
    cancelled = {line["of"] for line in chain if line["OP"] == "cancel"}
    chain = [x for x in chain if x["OP"] in CONTENT + ATTRIBUTES and x["seq"] not in cancelled]
    if seq is None:
        for line in reversed(chain):
            print(line["seq"], *list(line.values())[:5])
        return
    data = bytearray(open(file, "rb").read())
    for line in chain:
        if line["OP"] in CONTENT:
            take_back(history, line, data)
        if line["seq"] == seq:
            return sys.stdout.buffer.write(data)
    sys.exit(f"operation {seq} is not one of this file, or was dropped")

sys.exit(__doc__) if len(sys.argv) < 3 else main(*sys.argv[1:])
