#!/bin/bash
# SPDX-License-Identifier: MIT
# Two workers, a VMM at each: every page arrives, whoever fetches it, and every thread sees it right.
. "$(dirname "$0")/../worker-functions.sh"
requires uffd-minor

worker a --listen 127.0.0.1:0
worker b
exporter vm a
importer copy b "$(listening a)" copy 4
was_right copy
importer fault b "$(listening a)" fault 8
was_right fault
importer pager b "$(listening a)" pager 4
was_right pager

# Three at a time, of the same memory, at one worker.
importer one b "$(listening a)" fault 4
importer two b "$(listening a)" copy 4
importer three b "$(listening a)" pager 2
was_right one
was_right two
was_right three

# One worker can be both.
importer same a "$(listening a)" fault 2
was_right same

# When the VMM that exports has gone, its token is worth nothing.
exec {exporter_in}>&-
ended vm 20
((status == 0)) || fail "the exporter ended with status $status"
wait_for 10 says a 'vmm 1: has gone'
importer late b "$(listening a)" copy 1
was_told late 'EPERM.*nothing is exported under this token'
stop a
stop b
[[ ! -e $tmp/a.sock && ! -e $tmp/b.sock ]] || fail "a socket was left behind"
