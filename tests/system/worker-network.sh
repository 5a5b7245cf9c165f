#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 240
# A bad network between two workers: cut, silent, and one that changes bits. Each is an error with a
# name, and no wrong page.
. "$(dirname "$0")/../worker-functions.sh"
requires uffd-minor

worker a --listen 127.0.0.1:0
worker b --timeout 2
exporter vm a

# proxied NAME MODE THREADS PROXY_OPTION... - imports through a bad network
proxied() {
	rm -f "$tmp/proxy.log"
	start proxy "$BUILD/tests/system/link-proxy" "$(listening a)" "${@:4}"
	wait_for 20 grep -q . "$tmp/proxy.log"
	importer "$1" b "127.0.0.1:$(head -n 1 "$tmp/proxy.log" | grep -o '[0-9]*$')" "$2" "$3" \
		${again:+again}
}

end_proxy() {
	kill -KILL "${started[proxy]}"
	ended proxy 20
}

# Of 14 MiB of contents; in heads and in the middle of pages.
for bytes in 100 5000 100000 1000003 5000000; do
	again='' proxied "cut-$bytes" copy 4 --cut $bytes
	was_told "cut-$bytes" 'ECONNRESET'
	end_proxy
	again=1 proxied "mended-$bytes" fault 4 --cut $((bytes + 2000))
	was_right "mended-$bytes"
	end_proxy
done

# Silence, for longer than the timeout.
again='' proxied mute copy 4 --mute 3000000
was_told mute 'copying: ETIMEDOUT'
end_proxy

# One bit is changed on the way in: a page that is wrong, or a frame that is. With "again" all is right in the
# end.
for bytes in 20000 1000000 3000017 9000000; do
	again='' proxied "flip-$bytes" copy 4 --flip $bytes --way in
	was_told "flip-$bytes" 'copying: (EBADMSG|ECONNRESET)'
	end_proxy
	again=1 proxied "flip-mended-$bytes" fault 4 --flip $bytes --way in
	was_right "flip-mended-$bytes"
	end_proxy
done

# What is cut from under the worker is an error too, and harms no other VMM.
importer cut b "$(listening a)" copy 2
was_right cut
echo cut >"$tmp/vm.in"
wait_for 20 says vm 'cut'
importer after b "$(listening a)" copy 2
ended after 60
((status == 3)) || fail "memory that was cut was copied: status $status"
running a || fail "the worker was taken down by a VMM"
stop a
stop b
