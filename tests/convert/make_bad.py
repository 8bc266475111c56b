#!/usr/bin/env python3
"""Writes the torch archives and pickles of tests/fuzz/corpus: good ones, and one for every way to be bad.

    make_bad.py CORPUS-FOLDER

LIST in each folder has a line per file: name, ok or bad, words of the refusal.
"""
import io
import os
import pickle
import struct
import sys
import zipfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_kinds  # noqa: E402


def tensor_file(tensors):
    path = "/tmp/make_bad.pth"
    make_kinds.write_pth(path, tensors, ["a._extra_state"])
    with open(path, "rb") as f:
        data = f.read()
    os.remove(path)
    return data


def zipped(entries, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        for name, data in entries:
            z.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def entries_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as z:
        return [(n, z.read(n)) for n in z.namelist()]


class Evil:
    def __init__(self, fn, args):
        self.fn, self.args = fn, args

    def __reduce__(self):
        return self.fn, self.args


def main():
    top = sys.argv[1]
    good = tensor_file([("a.weight", [2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), ("b.weight", [4], [0.5] * 4)])
    entries = entries_of(good)
    table = entries[0][1]
    pth, pkl = {}, {}

    def put(where, name, data, verdict, words):
        assert name not in where
        where[name] = (data, verdict, words)
    put(pth, "good.pth", good, "ok", "")
    put(pth, "truncated.pth", good[:len(good) // 2], "bad", "no directory at its end")
    put(pth, "empty.pth", b"", "bad", "too few")
    put(pth, "pointer.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "bad", "Git LFS pointer")
    put(pth, "old-pickle.pth", table, "bad", "Python pickle")
    put(pth, "compressed.pth", zipped(entries, zipfile.ZIP_DEFLATED), "bad", "is compressed")
    put(pth, "bomb.pth", zipped([("c/data.pkl", table), ("c/data/0", b"\0" * 100000)], zipfile.ZIP_DEFLATED), "bad",
        "is compressed")
    put(pth, "no-table.pth", zipped(entries[1:]), "bad", "no table of tensors")
    put(pth, "no-data.pth", zipped(entries[:2]), "bad", "are not there")
    put(pth, "big-endian.pth", zipped([(n, b"bigger" if n.endswith("byteorder") else d) for n, d in entries]), "bad",
        "not little-endian")
    put(pth, "short-data.pth", zipped([(n, d[:4] if n.endswith("/0") else d) for n, d in entries]), "bad", "its data have")
    put(pth, "twice.pth", zipped([entries[0]] + entries), "bad", "two entries are called")
    # the second entry's record points to the first one's bytes
    lap = bytearray(zipped([("c/data.pkl", table), ("c/data/0", b"x" * 12), ("c/data/1", b"y" * 12)]))
    at = lap.rfind(b"PK\1\2")
    before = lap.rfind(b"PK\1\2", 0, at)
    lap[at + 42:at + 46] = lap[before + 42:before + 46]
    put(pth, "overlap.pth", bytes(lap), "bad", "header is not that of the directory")
    same = bytearray(lap)
    same[at + 46 + len("c/data/"):at + 46 + len("c/data/") + 1] = b"0"
    put(pth, "overlap-named.pth", bytes(same), "bad", "overlap")
    grown = bytearray(good)
    first = grown.rfind(b"PK\1\2")
    grown[first + 20:first + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    put(pth, "claims.pth", bytes(grown), "bad", "reaches beyond")
    locked = bytearray(good)
    locked[first + 8] |= 1
    put(pth, "encrypted.pth", bytes(locked), "bad", "encrypted")
    many = bytearray(good)
    many[-14:-10] = struct.pack("<HH", 60000, 60000)
    put(pth, "count.pth", bytes(many), "bad", "a directory of")
    put(pth, "evil.pth", zipped([("c/data.pkl", pickle.dumps(Evil(os.system, ("true",)), 2))]), "bad", "system")

    put(pkl, "good.pkl", table, "ok", "")
    put(pkl, "empty.pkl", b"", "bad", "does not begin")
    put(pkl, "ends.pkl", table[:100], "bad", "byte")
    put(pkl, "system.pkl", pickle.dumps(Evil(os.system, ("true",)), 2), "bad", "nothing is executed")
    put(pkl, "eval.pkl", pickle.dumps({"a": Evil(eval, ("1",))}, 2), "bad", "nothing is executed")
    put(pkl, "stack-global.pkl", pickle.dumps(Evil(os.system, ("true",)), 4), "bad", "nothing is executed")
    put(pkl, "number.pkl", pickle.dumps(5, 2), "bad", "no dictionary")
    put(pkl, "list.pkl", pickle.dumps([1, 2], 2), "bad", "no dictionary")
    put(pkl, "nested.pkl", pickle.dumps({"a": {"b": 1}}, 2), "bad", "is no tensor")
    put(pkl, "key.pkl", pickle.dumps({1: 2}, 2), "bad", "no text")
    put(pkl, "set.pkl", pickle.dumps({"a": {1, 2}}, 2), "bad", "nothing is executed")
    put(pkl, "instance.pkl", b"\x80\x02(ios\nsystem\n.", "bad", "an instruction")
    put(pkl, "build.pkl", b"\x80\x02}}b.", "ok", "")
    put(pkl, "pop.pkl", b"\x80\x020.", "bad", "empty stack")
    put(pkl, "mark.pkl", b"\x80\x02t.", "bad", "mark is missing")
    put(pkl, "memo.pkl", b"\x80\x02h\x05.", "bad", "never put")
    put(pkl, "far-memo.pkl", b"\x80\x02}r\xff\xff\xff\x7f.", "bad", "out of range")
    put(pkl, "odd.pkl", b"\x80\x02}(K\x01u.", "bad", "not in pairs")
    put(pkl, "text.pkl", b"\x80\x02X\xff\xff\xff\x7fab.", "bad", "ends in the middle")
    put(pkl, "storage.pkl", b"\x80\x02}Q.", "bad", "five values")
    put(pkl, "call.pkl", b"\x80\x02K\x01)R.", "bad", "no function")
    put(pkl, "ordered.pkl", b"\x80\x02ccollections\nOrderedDict\n)R.", "ok", "")
    for folder, files in (("pth", pth), ("pickle", pkl)):
        os.makedirs(top + "/" + folder, exist_ok=True)
        with open("%s/%s/LIST" % (top, folder), "w") as f:
            for name, (data, verdict, words) in sorted(files.items()):
                with open("%s/%s/%s" % (top, folder, name), "wb") as out:
                    out.write(data)
                f.write("%s %s %s\n" % (name, verdict, words))


if __name__ == "__main__":
    main()
