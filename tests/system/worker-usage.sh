#!/bin/bash
# SPDX-License-Identifier: MIT
# Options, sockets, and strangers at both doors of a worker.
. "$(dirname "$0")/../worker-functions.sh"

status_is() {
	# shellcheck disable=SC2154 # from functions.sh
	((status == $1)) || fail "status $status, not $1: $output"
}

refused "$BUILD/faultline" worker
status_is 2
# shellcheck disable=SC2154 # from functions.sh
contains "$output" 'a --socket is needed'
refused "$BUILD/faultline" worker --socket "$tmp/x.sock" --tls-cert /dev/null
contains "$output" 'belong together'
status_is 2
refused "$BUILD/faultline" worker --socket "$tmp/x.sock" --listen nonsense
contains "$output" 'nonsense'
status_is 2
refused "$BUILD/faultline" worker --socket "$tmp/none/x.sock"
contains "$output" "$tmp/none/x.sock"
status_is 1
refused "$worker_client" import "$tmp/none.sock" 127.0.0.1:1 4096 1 /dev/null copy 1
contains "$output" 'ENOENT'

worker a --listen 127.0.0.1:0 --timeout 6
refused timeout 20 "$BUILD/faultline" worker --socket "$tmp/a.sock"
contains "$output" "$tmp/a.sock"
at=$(listening a)

# Strangers: nothing, garbage, half of something, at both doors.
python3 - "$tmp/a.sock" "${at%:*}" "${at##*:}" <<'PYTHON'
import os, socket, struct, sys
path, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])

def local(data, fds=()):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.settimeout(20)
    if fds:
        socket.send_fds(s, [data], list(fds))
    else:
        s.sendall(data)
    return s

def ends(s, what):
    try:
        while s.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except socket.timeout:
        sys.exit(f'FAIL: {what}: the worker goes on listening')

MAGIC = 0x4b57464c
def message(type, version=1, code=0, count=0, offset=0, length=0, fd_offset=0, text=b''):
    return struct.pack('=IHHiIQQQ16s256s', MAGIC, version, type, code, count, offset, length,
                       fd_offset, b'', text)

ends(local(os.urandom(4096)), 'garbage')
ends(local(message(3)), 'EXPORT without HELLO')
ends(local(message(1, version=9)), 'another version')
ends(local(message(1) + message(77)), 'an unknown type')
ends(local(message(1) + message(1)), 'HELLO twice')
ends(local(message(1) + message(2)), 'REGION without a descriptor')
ends(local(message(1) + message(4, text=b'x' * 256)), 'a text without an end')
fd = os.memfd_create('x')
os.ftruncate(fd, 8192)
ends(local(message(1), [fd] * 200), 'many descriptors')

def error(s, want, what):
    data = b''
    while len(data) < 312:
        more = s.recv(312 - len(data))
        if not more:
            sys.exit(f'FAIL: {what}: no answer')
        data += more
    type, code = struct.unpack_from('=Hi', data, 6)
    if type != 7 or code != want:
        sys.exit(f'FAIL: {what}: answered {type} {code}')

def region(length, fd, offset=0, fd_offset=0, then=3):
    s = local(message(1))
    data, fds, flags, addr = socket.recv_fds(s, 312, 8)
    for f in fds:
        os.close(f)
    socket.send_fds(s, [message(2, offset=offset, length=length, fd_offset=fd_offset)], [fd])
    s.sendall(message(then, count=1, text=b'127.0.0.1:1'))
    return s

if len(message(1)) != 312:
    sys.exit('FAIL: a message of %d bytes' % len(message(1)))
error(region(4095, fd), -22, 'not aligned')
error(region(0, fd), -22, 'empty')
error(region(1 << 40, fd), -22, 'beyond its file')
error(region(4096, fd, offset=(1 << 64) - 4096), -22, 'wraps')
error(region(4096, fd, fd_offset=(1 << 64) - 4096), -22, 'wraps in its file')
null = os.open('/dev/null', os.O_RDWR)
error(region(4096, null), -9, 'no file')
error(region(4096, os.open('/', os.O_RDONLY)), -9, 'a folder')
error(region(4096, os.open('/proc/self/status', os.O_RDONLY)), -9, 'no memory')
error(region(4096, fd, then=4), -111, 'nobody there')

keep = []
for data in (b'', b'\0' * 64, os.urandom(200), b'GET / HTTP/1.0\r\n\r\n' * 4):
    s = socket.create_connection((host, port))
    s.settimeout(20)
    s.sendall(data)
    keep.append(s)
for s in keep:
    ends(s, 'a stranger on the network')
PYTHON

# It still serves.
exporter vm a
importer copy a "$at" copy 2
was_right copy
before=$(descriptors "${started[a]}")
for ((i = 0; i < 5; i++)); do
	importer "again-$i" a "$at" copy 2
	was_right "again-$i"
done
wait_for 20 test "$(descriptors "${started[a]}")" -le "$before"
stop a
