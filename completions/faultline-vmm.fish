# SPDX-License-Identifier: MIT
# fish completion for faultline-vmm

set -l verbs run snapshot restore receive migrate control
set -l none "not __fish_seen_subcommand_from $verbs"

complete -c faultline-vmm -f
complete -c faultline-vmm -n $none -a run -d 'start a guest, run commands in it'
complete -c faultline-vmm -n $none -a snapshot -d 'let a running guest be saved'
complete -c faultline-vmm -n $none -a restore -d 'go on from a snapshot'
complete -c faultline-vmm -n $none -a receive -d 'go on with a machine that another host sends'
complete -c faultline-vmm -n $none -a migrate -d 'let a running guest move to another host'
complete -c faultline-vmm -n $none -a control -d 'ask a running guest'
complete -c faultline-vmm -n $none -l version -d 'print the version'
complete -c faultline-vmm -l help -d 'print help'
complete -c faultline-vmm -l control -rF -d 'the control socket'
complete -c faultline-vmm -l json -d 'print JSON'

set -l machine '__fish_seen_subcommand_from run restore receive'
complete -c faultline-vmm -n $machine -l accel -x -a 'auto kvm thread' -d 'what runs the vCPUs'
complete -c faultline-vmm -n $machine -l backing -x -a 'anon memfd hugetlbfs' -d 'what memory is made of'
complete -c faultline-vmm -n $machine -l dirty -x -a 'auto log ring wp' -d 'how writes are recorded'
complete -c faultline-vmm -n $machine -l command -x -a 'stamp verify churn discard: stop wait' -d 'run it'
complete -c faultline-vmm -n $machine -l snapshot -rF -d 'save the machine there'
complete -c faultline-vmm -n "$machine; or __fish_seen_subcommand_from migrate" -l quiet -d 'say less'

set -l run '__fish_seen_subcommand_from run'
complete -c faultline-vmm -n $run -l memory -x -d 'guest memory'
complete -c faultline-vmm -n $run -l vcpus -x -d 'vCPUs'
complete -c faultline-vmm -n $run -l hole -x -d 'where the hole below 4G begins'

set -l restore '__fish_seen_subcommand_from restore'
complete -c faultline-vmm -n $restore -l uffd -rF -d 'hand memory to the handler there'
complete -c faultline-vmm -n $restore -l eager -d 'read all first'
complete -c faultline-vmm -n $restore -l inside -d 'serve page faults here'
complete -c faultline-vmm -n $restore -l fill -d 'read the rest in the background'
complete -c faultline-vmm -n $restore -l form -x -a 'both kib none' -d 'page-size fields'
complete -c faultline-vmm -n '__fish_seen_subcommand_from restore receive' -l trap -x -a 'auto uffd segv' -d 'how faults are noticed'

set -l peer '__fish_seen_subcommand_from receive migrate'
complete -c faultline-vmm -n $peer -l listen -x -a '127.0.0.1: unix:' -d 'wait there'
complete -c faultline-vmm -n $peer -l compress -x -a 'none lz4 zstd any' -d 'what to offer'
complete -c faultline-vmm -n $peer -l timeout -x -d 'milliseconds for a silent peer'
complete -c faultline-vmm -n $peer -l worker -rF -d 'memory by the page worker there'
complete -c faultline-vmm -n $peer -l fabric -x -a 'tcp verbs efa' -d 'memory by libfabric'
complete -c faultline-vmm -n $peer -l tls-cert -rF -d 'our certificate'
complete -c faultline-vmm -n $peer -l tls-key -rF -d 'its private key'
complete -c faultline-vmm -n $peer -l tls-authority -rF -d 'who signed the peer'
complete -c faultline-vmm -n '__fish_seen_subcommand_from receive' -l window -x -d 'asked for ahead of need'

set -l migrate '__fish_seen_subcommand_from migrate'
complete -c faultline-vmm -n $migrate -l to -x -a '127.0.0.1: unix:' -d 'where receive listens'
complete -c faultline-vmm -n $migrate -l mode -x -a 'hybrid precopy postcopy' -d 'when the machine moves'
complete -c faultline-vmm -n $migrate -l max-downtime -x -d 'milliseconds for the rest of a pre-copy'
complete -c faultline-vmm -n $migrate -l max-rounds -x -d 'of pre-copy'
complete -c faultline-vmm -n $migrate -l bandwidth -x -d 'bytes a second'
complete -c faultline-vmm -n $migrate -l cancel -d 'call it off'
complete -c faultline-vmm -n $migrate -l recover -d 'meet again'
complete -c faultline-vmm -n $migrate -l status -d 'how far it is'

complete -c faultline-vmm -n '__fish_seen_subcommand_from control' -l wait -d 'for the command'
complete -c faultline-vmm -n '__fish_seen_subcommand_from control' -a 'status pause resume wait quit command snapshot'
