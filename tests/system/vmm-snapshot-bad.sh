#!/bin/bash
# SPDX-License-Identifier: MIT
# Snapshots that are missing, cut, contradictory or of another version: one error that names it.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

"$vmm" run --accel thread --vcpus 2 --memory 8M --command stamp:light --snapshot "$tmp/good" >/dev/null

# bad NAME PATTERN - restoring $tmp/NAME fails with one line that matches
bad() {
	refused "$vmm" restore "$tmp/$1" --eager --accel thread
	((status == 1)) || fail "$1: exit status $status, not 1"
	[[ $(wc -l <<<"$output") = 1 ]] || fail "$1: not one line: $output"
	contains "$output" "$2"
}

copy() { # NAME
	cp -r "$tmp/good" "$tmp/$1"
}

# edited NAME FILE FILTER PATTERN - with a file changed by jq
edited() {
	copy "$1"
	jq "$3" "$tmp/good/$2" >"$tmp/$1/$2"
	bad "$1" "$1/$2: $4"
}

bad nowhere 'snapshot .*/nowhere: No such file'
mkdir "$tmp/empty"
bad empty 'empty/layout.json: No such file'

for file in layout.json machine.json vcpus.bin memory; do
	copy "no-$file"
	rm "$tmp/no-$file/$file"
	bad "no-$file" "no-$file/$file: No such file"
	copy "half-$file"
	truncate -s $(($(stat -c %s "$tmp/good/$file") / 2)) "$tmp/half-$file/$file"
	bad "half-$file" "half-$file/$file: "
done
bad half-memory '4194304 bytes, layout.json wants 8388608'
bad half-machine.json 'machine.json: line [0-9]+: '
copy long
truncate -s 9M "$tmp/long/memory"
bad long 'memory: 9437184 bytes, layout.json wants 8388608'
copy huge
truncate -s 1M "$tmp/huge/layout.json"
bad huge 'huge/layout.json: File too large'
copy dir
rm "$tmp/dir/machine.json"
mkdir "$tmp/dir/machine.json"
bad dir 'dir/machine.json: '

edited version layout.json '.version = 2' 'version is 2: this program reads version 1'
edited zero layout.json '.regions = []' '"regions" is missing or has not 1 to 8'
edited many layout.json '.regions = [range(9) as $i | .regions[0]]' '"regions".* 1 to 8'
edited twice layout.json '.regions += .regions' 'region 1: overlaps'
edited offset layout.json '.regions[0].offset = 4096' 'region 0: offset 4096 is not the sum'
edited page layout.json '.regions[0].page_size = 0' 'region 0: page size 0'
edited odd layout.json '.regions[0].size += 1' 'region 0: .*no multiple of the page size'
edited negative layout.json '.regions[0].size = -4096' '"size" is -4096'
edited wide layout.json '.regions[0].size = 1e30' '"size" is missing or no integer'
edited backing layout.json '.regions[0].backing = "tape"' '"backing" is "tape", which is unknown'
edited total layout.json '.memory_size = 4096' '"memory_size" is 4096, the regions add up'
edited list layout.json '[.]' 'not a JSON object'
edited vcpus machine.json '.vcpus = 0' '"vcpus" is 0'
edited crowd machine.json '.vcpus = 65' '"vcpus" is 65: wants 0 to 64'
edited accel machine.json '.accel = "abacus"' '"accel" is "abacus"'
edited abi machine.json '.payload_abi = 99' 'payload ABI is 99'
edited running machine.json '.running = {"command":"churn","seq":1,"busy":[2],"taken":[]}' \
	'"running" names a vCPU that is none'
edited nonsense machine.json '.running = {"command":"fly","seq":1,"busy":[1],"taken":[1]}' \
	'"running": "fly" is no command'
copy state
jq '.state_bytes += 8' "$tmp/good/machine.json" >"$tmp/state/machine.json"
bad state 'state/vcpus.bin: 32 bytes, machine.json says 40'
copy magic
spoil "$tmp/magic/vcpus.bin" 0
bad magic 'magic/vcpus.bin: not a machine state'
copy checksum
spoil "$tmp/checksum/vcpus.bin" 24
bad checksum 'checksum/vcpus.bin: checksum does not match'
copy registers
jq '.accel = "kvm"' "$tmp/good/machine.json" >"$tmp/registers/machine.json"
bad registers 'registers/vcpus.bin: no registers for vCPU 0'

# Taking one: where something is already, and where nothing can be.
mkdir "$tmp/full"
touch "$tmp/full/mine"
refused "$vmm" run --accel thread --memory 4M --snapshot "$tmp/full"
contains "$output" "snapshot $tmp/full: Directory not empty"
refused "$vmm" run --accel thread --memory 4M --snapshot "$tmp/no/where"
contains "$output" 'snapshot .*No such file'
[[ -z $(find "$tmp" -name '*.partial-*') ]] || fail "half a snapshot was left behind"
