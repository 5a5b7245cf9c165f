# SPDX-License-Identifier: MIT
# fish completion for faultline

set -l commands serve stat top worker probe bench help version
set -l none "not __fish_seen_subcommand_from $commands"

complete -c faultline -f
complete -c faultline -n $none -a serve -d 'supply the memory of virtual machines from images'
complete -c faultline -n $none -a stat -d 'show what a daemon does'
complete -c faultline -n $none -a top -d 'show it live'
complete -c faultline -n $none -a worker -d 'be the network of virtual machines'
complete -c faultline -n $none -a probe -d 'show what this kernel offers'
complete -c faultline -n $none -a bench -d 'measure, beside a bare loop'
complete -c faultline -n $none -a help -d 'list the commands'
complete -c faultline -n $none -a version -d 'print the version'
complete -c faultline -n "__fish_seen_subcommand_from help" -a 'serve stat top probe bench'
complete -c faultline -s h -l help -d 'print help'

set -l serve '__fish_seen_subcommand_from serve'
complete -c faultline -n $serve -s s -l socket -rF -d 'wait here for VMs'
complete -c faultline -n $serve -s m -l memory -rF -d 'the memory image'
complete -c faultline -n $serve -s f -l fill -d 'read ahead of need'
complete -c faultline -n $serve -l no-fill -d 'read what is touched only'
complete -c faultline -n $serve -s a -l around -x -a '0 16K 64K 256K 2M' -d 'install this much around a fault'
complete -c faultline -n $serve -s r -l record -rF -d 'write the working set of the first VM'
complete -c faultline -n $serve -s p -l replay -rF -d 'read the pages of a working set first'
complete -c faultline -n $serve -l filter -x -a 'stats delay= error= retry=' -d 'wrap the image'
complete -c faultline -n $serve -l release -d 'let go of guests that are whole'
complete -c faultline -n $serve -l no-release -d 'keep serving guests that are whole'
complete -c faultline -n $serve -l on-failure -x -a 'kill leave' -d 'a VM whose session failed'
complete -c faultline -n $serve -s t -l timeout -x -d 'seconds for a handshake'
complete -c faultline -n $serve -l spin -x -d 'microseconds to look for the next fault'
complete -c faultline -n $serve -l metrics -x -a '127.0.0.1: unix:' -d 'Prometheus metrics'
complete -c faultline -n $serve -s l -l log-level -x -a 'error warning info debug' -d 'what is said'

complete -c faultline -n '__fish_seen_subcommand_from serve stat top' -s c -l control -rF -d 'the control socket'
complete -c faultline -n '__fish_seen_subcommand_from stat probe bench' -s j -l json -d 'print JSON'
complete -c faultline -n '__fish_seen_subcommand_from top' -s d -l delay -x -d 'seconds between two looks'

set -l worker '__fish_seen_subcommand_from worker'
complete -c faultline -n $worker -s s -l socket -rF -d 'wait here for VMMs'
complete -c faultline -n $worker -s L -l listen -x -d 'wait here for other workers'
complete -c faultline -n $worker -l tls-cert -rF -d 'our certificate'
complete -c faultline -n $worker -l tls-key -rF -d 'its private key'
complete -c faultline -n $worker -l tls-ca -rF -d 'the authority of other workers'
complete -c faultline -n $worker -s t -l timeout -x -d 'seconds of silence after which a worker is lost'
complete -c faultline -n $worker -l spin -x -d 'microseconds to look for more'
complete -c faultline -n $worker -s l -l log-level -x -a 'error warning info debug' -d 'what is said'

set -l bench '__fish_seen_subcommand_from bench'
complete -c faultline -n $bench -s o -l only -x -d 'only this benchmark'
complete -c faultline -n $bench -s n -l rounds -x -d 'rounds of each side'
complete -c faultline -n $bench -s q -l quick -d 'with less memory'
complete -c faultline -n $bench -l spin -x -d 'microseconds to look for the next fault'
