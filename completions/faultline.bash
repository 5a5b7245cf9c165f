# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# bash completion for faultline

_faultline() {
	local current=$2 previous=$3 command=${COMP_WORDS[1]} words=
	COMPREPLY=()

	if ((COMP_CWORD == 1)); then
		mapfile -t COMPREPLY < <(compgen -W \
			'serve stat top worker probe bench help version --help --version' -- "$current")
		return
	fi
	case $previous in
	--on-failure) words='kill leave' ;;
	--log-level | -l) words='error warning info debug' ;;
	--filter) words='stats delay= error= retry=' ;;
	--metrics) words='127.0.0.1: [::1]: unix:' ;;
	--around | -a) words='0 16K 64K 256K 2M' ;;
	--timeout | -t | --spin | --delay | -d | --rounds | -n | --only | -o) return ;;
	--listen | -L) return ;;
	--socket | --memory | --record | --replay | --control | --tls-* | -[smrpc])
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		compopt -o filenames 2>/dev/null
		return
		;;
	esac
	if [[ -z $words ]]; then
		case $command in
		serve)
			words='--socket --memory --fill --no-fill --around --record --replay --filter
				--release --no-release --on-failure --timeout --spin --control
				--metrics --log-level --help'
			;;
		stat) words='--control --json --help' ;;
		top) words='--control --delay --help' ;;
		worker)
			words='--socket --listen --tls-cert --tls-key --tls-ca --timeout --spin
				--log-level --help'
			;;
		probe) words='--json --help' ;;
		bench) words='--only --rounds --quick --spin --json --help' ;;
		help) words='serve stat top worker probe bench' ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
	[[ ${COMPREPLY[0]-} != *[=:] ]] || compopt -o nospace 2>/dev/null
}

complete -F _faultline faultline
