#!/usr/bin/env python3
"""Runs the demo model in emulated machines of several memory nodes and asks where the pages of its weights are.

Two witnesses: what corral says of itself (--json), and what the guest's kernel says of corral (numa_maps). Both are
judged by the plan that the same machine printed. Every machine also judges something that must be found wrong.

usage: check.py [--kernel IMAGE] [--only NAME,...] [--keep] CORRAL DEMO FOLDER
CORRAL is an installed program, DEMO a checkpoint, FOLDER a place for kernel, initramfs and consoles. Exit status 0, 1 when
a check failed, 77 when a tool is missing. Emulation tells nothing about speed.
"""
import argparse
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = int(os.environ.get("CORRAL_VM_TIMEOUT", "240"))  # s per machine; 15 to 35 are needed on two busy cores
PAGE, HUGE = 4096, 2 << 20
MODES = ["experts", "rows", "interleave", "off", "auto"]
PROMPT, IDS = "Once upon a time", "1 258 559 406 294"  # as in init
KERNELS = ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64"]  # Debian, Ubuntu, Debian


def skip(why):
    print("check-numa-vm: " + why)
    sys.exit(77)


# --- what is needed ---------------------------------------------------------------------------------------------------

def find_tools():
    need = {"qemu-system-x86_64": "qemu-system-x86 seabios ipxe-qemu", "busybox": "busybox-static", "cpio": "cpio",
            "gzip": "gzip", "ldd": "libc-bin"}
    packages = [p for tool, p in need.items() if not shutil.which(tool)]
    if packages:
        skip("skipped; it needs packages: apt-get install --no-install-recommends " + " ".join(packages))
    if os.uname().machine != "x86_64":
        skip("skipped; it emulates the processor that this machine has, and knows x86-64 only")


def find_kernel(given, folder):
    """An image that was named, one unpacked before, or that of the distribution's package, unpacked but not installed."""
    if given:
        return given if os.access(given, os.R_OK) else skip("skipped; the kernel %s cannot be read" % given)
    root = os.path.join(folder, "kernel")
    pattern = os.path.join(root, "boot", "vmlinuz-*")
    if not glob.glob(pattern) and shutil.which("apt-get"):
        os.makedirs(root, exist_ok=True)
        for meta in KERNELS:
            said = subprocess.run(["apt-cache", "depends", meta], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            real = re.search(r"Depends: (linux-image-\S+)", said.stdout)
            if real and not subprocess.run(["apt-get", "-qq", "download", real.group(1)], cwd=root,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                for deb in glob.glob(os.path.join(root, "*.deb")):
                    subprocess.run(["dpkg", "-x", deb, root], check=True)
                    os.remove(deb)
                break
    found = sorted(glob.glob(pattern))
    if not found:
        skip("skipped; no kernel could be downloaded: name one, make check-numa-vm KERNEL=/boot/vmlinuz-...")
    return found[-1]


def make_initramfs(corral, model, folder):
    root = os.path.join(folder, "root")
    shutil.rmtree(root, ignore_errors=True)
    for name in ["bin", "proc", "sys", "dev", "tmp"]:
        os.makedirs(os.path.join(root, name))
    shutil.copy(shutil.which("busybox"), os.path.join(root, "bin", "busybox"))
    for name in "sh mount cat grep sed tr stty md5sum mkfifo mkdir rm dd poweroff".split():
        os.symlink("busybox", os.path.join(root, "bin", name))
    shutil.copy(corral, os.path.join(root, "bin", "corral"))
    listed = subprocess.run(["ldd", corral], check=True, stdout=subprocess.PIPE, text=True).stdout
    for library in re.findall(r"(?:=>|^)\s*(/\S+) \(", listed, re.M):
        to = root + library
        os.makedirs(os.path.dirname(to), exist_ok=True)
        shutil.copy(library, to)
    shutil.copy(os.path.join(HERE, "init"), os.path.join(root, "init"))
    os.chmod(os.path.join(root, "init"), 0o755)
    shutil.copy(model, os.path.join(root, "demo.crl"))
    image = os.path.join(folder, "initramfs.gz")
    subprocess.run("find . | cpio -o -H newc --quiet | gzip -1 >../initramfs.gz", shell=True, check=True, cwd=root)
    shutil.rmtree(root)
    return image


# --- machines ---------------------------------------------------------------------------------------------------------

def distance(a, b, cpu_nodes, per_socket):
    """As firmware states it; a node without processors is nearest to the first, then second ... socket in turn."""
    a, b = min(a, b), max(a, b)
    if b < cpu_nodes:
        return 12 if a // per_socket == b // per_socket else 21
    return 14 if a < cpu_nodes and a // per_socket == b - cpu_nodes else 24


def geometry(sockets, per_socket, cores, mib, alone=0, fast=False):
    """Options of qemu for nodes of `cores` each and `alone` nodes without any; fast: those are stated to be faster."""
    n = sockets * per_socket
    o = ["-machine", "q35,hmat=on" if fast else "q35", "-m", "%dM" % ((n + alone) * mib), "-smp",
         "%d,sockets=%d,cores=%d,threads=1" % (n * cores, sockets, per_socket * cores)]
    for i in range(n + alone):
        o += ["-object", "memory-backend-ram,id=m%d,size=%dM" % (i, mib)]
        node = "node,nodeid=%d,memdev=m%d" % (i, i)
        if i < n:
            node += ",cpus=%d-%d" % (i * cores, i * cores + cores - 1)
        if fast:
            node += ",initiator=%d" % (i if i < n else i - n)
        o += ["-numa", node]
    for i in range(n + alone):
        for j in range(i + 1, n + alone):
            o += ["-numa", "dist,src=%d,dst=%d,val=%d" % (i, j, distance(i, j, n, per_socket))]
    if fast:
        for i in range(n):
            for j in range(n + alone):
                near, rate = (j == i, 200) if j < n else (j - n == i, 800)
                for kind, value in [("latency,latency", 90 if near else 140),
                                    ("bandwidth,bandwidth", "%dG" % (rate if near else rate // 4))]:
                    o += ["-numa", "hmat-lb,initiator=%d,target=%d,hierarchy=memory,data-type=access-%s=%s"
                          % (i, j, kind, value)]
    return o


class Machine:
    def __init__(self, name, about, options, kernel_options, nodes, even=False):
        self.name, self.about, self.options, self.kernel_options = name, about, options, kernel_options
        self.nodes = nodes  # those that have processors
        self.even = even    # its shapes can be cut so that all nodes read the same
        self.thp = "thp" in kernel_options.split()
        self.pools = "pools=" in kernel_options


MACHINES = [
    Machine("two", "2 sockets, 2 nodes", geometry(2, 1, 2, 256), "transparent_hugepage=never limits", 2, True),
    Machine("huge", "2 sockets, 2 nodes, huge pages on request", geometry(2, 1, 2, 512), "transparent_hugepage=madvise thp",
            2, True),
    Machine("pools", "2 sockets, 2 nodes, pools of huge pages", geometry(2, 1, 2, 256), "transparent_hugepage=never pools=8",
            2, True),
    Machine("four", "2 sockets, 4 nodes", geometry(2, 2, 1, 256), "transparent_hugepage=never", 4),
    Machine("far", "2 sockets, 2 nodes and one without processors", geometry(2, 1, 2, 256, 1), "transparent_hugepage=never", 2,
            True),
    Machine("fast", "2 sockets, 2 nodes and two fast ones without processors", geometry(2, 1, 2, 256, 2, True),
            "transparent_hugepage=never", 2, True),
]


def boot(machine, kernel, initramfs, isa, folder):
    """The sections that the guest wrote, by their titles, and the seconds it took; None when it did not come to its end.

    All its processors take turns in one thread: corral's threads spin while they wait, and a processor that spins gives up
    its turn. A thread per processor takes four times as long where there are fewer cores than those."""
    base = os.path.join(folder, machine.name)
    line = ["qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "max"] + machine.options
    line += ["-kernel", kernel, "-initrd", initramfs, "-append",
             "console=ttyS0 quiet panic=-1 numa_balancing=disable isa=%s %s" % (isa, machine.kernel_options)]
    line += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "file:%s.console" % base,
             "-serial", "file:%s.log" % base]
    start = time.monotonic()
    with open(base + ".qemu", "w") as messages:
        try:
            subprocess.run(line, stdin=subprocess.DEVNULL, stdout=messages, stderr=messages, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
    seconds = time.monotonic() - start
    text = open(base + ".log", errors="replace").read().replace("\r", "")
    section, title = {}, "head"
    for row in text.splitlines():
        if row.startswith("@ "):
            title = row[2:]
            section.setdefault(title, [])
        else:
            section.setdefault(title, []).append(row)
    if "GUEST-EXIT 0" not in text.splitlines():
        print("\n".join(text.splitlines()[-15:]))
        return None, seconds
    return section, seconds


# --- judges: a list of complaints, empty when all is well ----------------------------------------------------------------

def judge_run(run, host, mode):
    place = run["placement"]
    bad = []
    if run["ids"] != host["ids"]:
        bad.append("tokens %s, on the host %s" % (run["ids"], host["ids"]))
    if run["isa"] != host["isa"]:
        bad.append("kernels of %s, on the host %s" % (run["isa"], host["isa"]))
    if mode != "auto" and place["mode"] != mode:
        bad.append("mode %s instead of %s" % (place["mode"], mode))
    if place["pretended"]:
        bad.append("took the machine for a pretended one")
    return bad


def judge_said(place, plan, even):
    """What corral says of its pages, for a mode that places them."""
    bad = []
    for i, (node, want) in enumerate(zip(place["nodes"], plan["nodes"])):
        if "bytes_local" not in node:
            return ["node %d: it is not known where its pages are" % i]
        if node["bytes_remote"]:
            bad.append("node %d: %d bytes are elsewhere" % (i, node["bytes_remote"]))
        if node["bytes_local"] != want["weight_bytes"]:
            bad.append("node %d: %d bytes of weights, planned %d" % (i, node["bytes_local"], want["weight_bytes"]))
    read = [node["weight_bytes_per_token"] for node in place["nodes"]]
    if len(read) != len(plan["nodes"]):
        bad.append("%d nodes, planned %d" % (len(read), len(plan["nodes"])))
    if even and max(read) > 1.02 * min(read):
        bad.append("nodes read %s bytes per token" % read)
    return bad


def mapped(rows):
    """Pages of 4 KiB of a program's memory: {policy: {node: pages}}."""
    found = {}
    for row in rows:
        words = row.split()
        if len(words) < 3 or not re.match("[0-9a-f]+$", words[0]) or ("file=" in row and " huge " not in row) or "stack" in row:
            continue
        size = re.search(r"kernelpagesize_kB=(\d+)", row)
        of = found.setdefault(words[1], {})
        for node, n in re.findall(r"\bN(\d+)=(\d+)", row):
            of[int(node)] = of.get(int(node), 0) + int(n) * (int(size.group(1)) if size else 4) // 4
    return found


def planned(plan):
    """Bytes of the regions bound to each node; none where there are none."""
    want = {}
    for region in plan["regions"]:
        if region["bytes"]:
            want[region["node"]] = want.get(region["node"], 0) + region["bytes"]
    return want


def judge_bound(maps, plan, slack):
    """What the kernel says, for a mode that binds regions to nodes: every page of a bound range is on its node, and there
    are as many as planned; the caches of keys and values may be bound as well."""
    bad, want = [], planned(plan)
    for node, of in maps.items():
        where = re.match(r"bind(?:=[a-z|]+)?:(\d+)$", node)
        if where and set(of) - {int(where.group(1))}:
            bad.append("range bound to node %s: pages %s" % (where.group(1), of))
    cache = sum(region["cache_bytes"] for region in plan["regions"])
    for node in {region["node"] for region in plan["regions"]} | {node["node"] for node in plan["nodes"]}:
        size, pages = want.get(node, 0), maps.get("bind:%d" % node, {}).get(node, 0)
        # The ends of a region that no slice touches may be missing.
        if not 0.97 * size <= pages * PAGE <= size + cache + slack:
            bad.append("node %d: %d bytes are bound to it and there, planned %d" % (node, pages * PAGE, size))
    return bad


def judge_spread(maps, plan, nodes, unit):
    """Pages in turn on all nodes, which is even up to one unit of what the kernel places at once."""
    bad, size = [], sum(r["bytes"] for r in plan["regions"])
    of = {}
    for policy, pages in maps.items():
        if policy.startswith("interleave"):
            for node, n in pages.items():
                of[node] = of.get(node, 0) + n * PAGE
    if not of:
        return ["no memory is interleaved"]
    if sorted(of) != nodes:
        bad.append("interleaved over nodes %s, planned %s" % (sorted(of), nodes))
    if max(of.values()) - min(of.values()) > unit:
        bad.append("bytes per node %s" % of)
    if sum(of.values()) < 0.97 * size:
        bad.append("%d bytes are interleaved, planned %d" % (sum(of.values()), size))
    return bad


def judge_unbound(maps):
    return ["memory is bound: %s" % p for p in maps if p.startswith(("bind", "interleave"))]


# --- one machine ---------------------------------------------------------------------------------------------------------

class Count:
    passed = failed = 0

    def __call__(self, what, complaints):
        print("%s: %s" % ("FAIL" if complaints else "PASS", what))
        for c in complaints:
            print("      " + c)
        self.failed += bool(complaints)
        self.passed += not complaints

    def must_fail(self, what, complaints):
        self("%s is found wrong" % what, [] if complaints else ["it was taken for right"])


def read_json(rows):
    return json.loads(next(row for row in rows if row.startswith("{")))


def judge_limits(m, s, host, count):
    """In control groups: fewer nodes, the same tokens."""
    for name, nodes in [("memory", [0]), ("processors", [1])]:
        plan = read_json(s["plan-" + name])
        place = read_json(s["run " + name])
        homes = [n["node"] for n in plan["modes"]["rows"]["nodes"]]
        bad = judge_run(place, host, "rows") + judge_said(place["placement"], plan["modes"]["rows"], False)
        if homes != nodes:
            bad.append("planned for nodes %s" % homes)
        count("%s: %s of one node alone allowed" % (m.name, name), bad)


def judge(m, s, host, logits, count):
    plan = read_json(s["plan"])
    unit = 2 * HUGE if m.thp else 4 * PAGE
    slack = 2 * HUGE if m.thp or m.pools else 16 * PAGE
    maps, place, table = {}, {}, []
    for mode in MODES:
        run = read_json(s["run " + mode])
        place[mode] = run["placement"]
        chosen = place[mode]["mode"]
        want = plan["modes"][chosen]
        bad = judge_run(run, host, mode)
        if not s["logits " + mode] or s["logits " + mode][0].split()[0] != logits:
            bad.append("other logits than on the host")
        count("%s, %s: tokens and logits of the host" % (m.name, mode), bad)
        maps[mode] = mapped(s["maps " + mode])
        if chosen in ("experts", "rows"):
            bad = judge_said(place[mode], want, m.even) + judge_bound(maps[mode], want, slack)
            table.append((mode, {k: v for k, v in sorted(maps[mode].items()) if k.startswith("bind")}))
        elif chosen == "interleave":
            bad = judge_spread(maps[mode], want, sorted(n["node"] for n in want["nodes"]), unit)
            table.append((mode, {k: v for k, v in maps[mode].items() if k.startswith("interleave")}))
        else:
            bad = judge_unbound(maps[mode])
        count("%s, %s: pages where they are planned" % (m.name, mode), bad)
    rows = plan["modes"]["rows"]
    other = json.loads(json.dumps(rows))
    for region in other["regions"]:
        region["node"] = rows["regions"][0]["node"]
    count.must_fail("%s: rows, judged as if planned for one node" % m.name, judge_bound(maps["rows"], other, slack))
    count.must_fail("%s: off, judged as rows" % m.name, judge_bound(maps["off"], rows, slack))
    count.must_fail("%s: off, judged as rows by its own words" % m.name, judge_said(place["off"], rows, False))
    count.must_fail("%s: rows, judged as interleave" % m.name, judge_spread(maps["rows"], rows, [0, 1], unit))
    with_cpu = {n["node"] for n in rows["nodes"]}
    if m.name in ("far", "fast"):
        other = set(planned(rows)) - with_cpu
        count("%s: %s" % (m.name, "nodes without processors hold the weights" if m.name == "fast" else
                          "a node without processors holds nothing while there is room"),
              [] if bool(other) == (m.name == "fast") else ["planned for nodes %s" % sorted(planned(rows))])
    if m.thp or m.pools:
        key = "AnonHugePages" if m.thp else "Private_Hugetlb"
        size = sum(int(row.split()[1]) << 10 for row in s["maps rows"] if row.startswith(key + ":"))
        count("%s: rows, %d of %d bytes of weights in huge pages" % (m.name, size, sum(planned(rows).values())),
              [] if size >= 0.6 * sum(planned(rows).values()) else ["too few"])
    if "limits" in m.kernel_options:
        judge_limits(m, s, host, count)
    for mode, of in table:
        print("      %-10s %s" % (mode, "  ".join("%s %s" % (k, " ".join("N%d=%d" % n for n in sorted(v.items())))
                                                   for k, v in of.items())))


def main():
    p = argparse.ArgumentParser(usage=__doc__)
    p.add_argument("--kernel")
    p.add_argument("--only")
    p.add_argument("corral")
    p.add_argument("demo")
    p.add_argument("folder")
    a = p.parse_args()
    corral, folder = os.path.abspath(a.corral), os.path.abspath(a.folder)
    find_tools()
    os.makedirs(folder, exist_ok=True)
    kernel = find_kernel(a.kernel, folder)
    model = os.path.join(folder, "demo.crl")
    if not os.path.exists(model) or os.path.getmtime(model) < os.path.getmtime(corral):
        if os.path.exists(model):
            os.remove(model)
        subprocess.run([corral, "convert", a.demo, model, "--recipe", "q4", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    isa = "avx2" if "avx2" in open("/proc/cpuinfo").read().split() else "scalar"
    host = json.loads(subprocess.run([corral, "run", model, "--raw", "--prompt", PROMPT, "--max-tokens", "3", "--temperature",
                                      "0", "--isa", isa, "--numa", "off", "--json", "--quiet"], check=True,
                                     stdout=subprocess.PIPE, text=True).stdout)
    out = os.path.join(folder, "logits.npy")
    subprocess.run([corral, "logits", model, "--ids", IDS, "--isa", isa, "--numa", "off", "--output", out, "--quiet"],
                   check=True)
    logits = hashlib.md5(open(out, "rb").read()).hexdigest()
    initramfs = make_initramfs(corral, model, folder)
    count = Count()
    for m in MACHINES:
        if a.only and m.name not in a.only.split(","):
            continue
        s, seconds = boot(m, kernel, initramfs, isa, folder)
        print("--- %s: %s; %.0f s" % (m.name, m.about, seconds))
        count("%s: ran to its end" % m.name,
              [] if s else ["see %s.console and .log; it is stopped after %d s" % (os.path.join(folder, m.name), TIMEOUT)])
        if s:
            judge(m, s, host, logits, count)
    print("# PASS:  %d\n# FAIL:  %d" % (count.passed, count.failed))
    return 1 if count.failed or not count.passed else 0


if __name__ == "__main__":
    sys.exit(main())
