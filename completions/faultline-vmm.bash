# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# bash completion for faultline-vmm

_faultline_vmm() {
	local current=$2 previous=$3 verb=${COMP_WORDS[1]} words=
	local accel='auto kvm thread' machine='--command --snapshot --control --dirty --json --quiet --help'
	local tls='--tls-cert --tls-key --tls-authority'
	COMPREPLY=()

	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W \
			'run snapshot restore receive migrate control --help --version' -- "$current")
		return
	fi
	case $previous in
	--accel) words=$accel ;;
	--backing) words='anon memfd hugetlbfs' ;;
	--trap) words='auto uffd segv' ;;
	--form) words='both kib none' ;;
	--dirty) words='auto log ring wp' ;;
	--mode) words='hybrid precopy postcopy' ;;
	--compress) words='none lz4 zstd any' ;;
	--command) words='stamp verify churn discard: stop wait' ;;
	--fabric) words='tcp verbs efa' ;;
	--listen | --to) words='127.0.0.1: unix:' ;;
	--memory | --hole | --vcpus | --window | --timeout | --bandwidth | --max-downtime | --max-rounds) return ;;
	--control | --snapshot | --uffd | --worker | --tls-cert | --tls-key | --tls-authority)
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		compopt -o filenames 2>/dev/null
		return
		;;
	esac
	if [[ -z $words && $current != -* ]]; then
		case $verb in
		control) words='status pause resume wait quit command snapshot' ;;
		snapshot | restore)
			mapfile -t COMPREPLY < <(compgen -d -- "$current")
			compopt -o filenames 2>/dev/null
			return
			;;
		esac
	fi
	if [[ -z $words ]]; then
		case $verb in
		run) words="--memory --vcpus --accel --backing --hole $machine" ;;
		restore) words="--uffd --eager --inside --trap --fill --form --accel --backing $machine" ;;
		receive) words="--listen --accel --backing --trap --compress --window --timeout $tls --worker --fabric $machine" ;;
		migrate)
			words="--control --to --mode --max-downtime --max-rounds --bandwidth --compress --timeout
				$tls --worker --fabric --cancel --recover --listen --status --json --quiet --help"
			;;
		snapshot) words='--control --json --help' ;;
		control) words='--control --wait --json --help' ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
	[[ ${COMPREPLY[0]-} != *: ]] || compopt -o nospace 2>/dev/null
}

complete -F _faultline_vmm faultline-vmm
