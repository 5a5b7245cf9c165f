#!/bin/bash
# SPDX-License-Identifier: MIT
# A machine whose commands of the command line are still to come is busy: before the first, and between two.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

python3 - "$vmm" "$tmp/e" >"$tmp/asked.log" <<'PYTHON' || fail "it seemed idle before its commands were done"
import json, socket, subprocess, sys, time
vmm, path = sys.argv[1:]
commands = ["stamp"] + ["verify:pages=500,seed=%d" % i for i in range(40)] + ["verify"]
words = [word for command in commands for word in ("--command", command)]
machine = subprocess.Popen([vmm, "run", "--accel", "thread", "--memory", "64M", "--control", path,
                            "--quiet"] + words, stdout=subprocess.DEVNULL)
end = time.time() + 60
asked = 0
try:
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            break
        except OSError:
            s.close()
            if time.time() > end:
                sys.exit("nobody listens")
    f = s.makefile()
    while True:
        s.sendall(b'{"do":"status"}\n')
        status = json.loads(f.readline())
        if not status["busy"]:
            break
        asked += 1
        if time.time() > end:
            sys.exit("it never was idle")
    print(asked, status)
    if status["command"] != "verify" or not asked:
        sys.exit("idle after %s, asked %d times before" % (status["command"] or "nothing", asked))
    s.sendall(b'{"do":"quit"}\n')
    machine.wait(20)
finally:
    machine.kill()
PYTHON
