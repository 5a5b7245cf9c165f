#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# On real KVM: whole pages, what a snapshot taken in mid-instruction-stream carries, both ways
# between the accelerators.
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"
requires kvm

"$vmm" run --accel kvm --memory 4M --vcpus 2 --json --command stamp:full \
	--command verify:stride=3,pages=200 >"$tmp/full"
clean "$tmp/full"

# --accel auto takes KVM where it is.
"$vmm" run --memory 4M --json --command stamp:light >"$tmp/auto"
[[ $(value "$tmp/auto" .accel) = kvm ]] || fail "auto did not take kvm"

# Idle machines move both ways.
"$vmm" run --accel kvm --memory 8M --vcpus 2 --command stamp:light --snapshot "$tmp/k" >"$tmp/k.log"
"$vmm" restore "$tmp/k" --eager --accel thread --json --command verify:random >"$tmp/k2t"
clean "$tmp/k2t"
"$vmm" run --accel thread --memory 8M --vcpus 2 --command stamp:light --snapshot "$tmp/t" \
	>"$tmp/t.log"
"$vmm" restore "$tmp/t" --eager --accel kvm --json --command verify:random >"$tmp/t2k"
clean "$tmp/t2k"

# A vCPU caught inside a command is in its registers: threads cannot take it over.
start vmm "$vmm" run --accel kvm --memory 8M --vcpus 2 --control "$tmp/control"
wait_for 20 is_idle
ask command churn:pages=20 >/dev/null
wait_for 30 progress_over 60
"$vmm" snapshot --control "$tmp/control" "$tmp/busy" >/dev/null
stop vmm
[[ $(jq -c .running.busy "$tmp/busy/machine.json") = "[0,1]" ]] || fail "nobody was busy"
refused "$vmm" restore "$tmp/busy" --eager --accel thread
contains "$output" 'vCPU 0 ran "churn:pages=20".*--accel kvm'
