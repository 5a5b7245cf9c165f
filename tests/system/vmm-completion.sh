#!/bin/bash
# SPDX-License-Identifier: MIT
# Completion of faultline-vmm knows every verb and every option that --help shows, in all three
# shells, and the man page names them all.
#
# builds: plain (texts are the same in all)
. "$(dirname "$0")/../functions.sh"
. "$(dirname "$0")/../vmm.sh"

# shellcheck disable=SC2154 # from functions.sh
completions=$top/completions page=$top/man/faultline-vmm.1.scd
# shellcheck source=/dev/null
. "$completions/faultline-vmm.bash"

completes() {
	COMP_WORDS=(faultline-vmm "$@")
	COMP_CWORD=$#
	_faultline_vmm faultline-vmm "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
	printf '%s\n' "${COMPREPLY[@]}"
}

[[ $(completes re) = $'restore\nreceive' ]] || fail "re: $(completes re)"
[[ $(completes migrate --mode p) = $'precopy\npostcopy' ]] || fail "--mode p"
[[ $(completes control p) = pause ]] || fail "control p"

verbs=0
while read -r verb _; do
	verbs=$((verbs + 1))
	[[ $(completes "$verb") = *"$verb"* ]] || fail "bash does not know $verb"
	known=$(completes "$verb" --)
	while read -r option; do
		grep -qxe "--$option" <<<"$known" || fail "bash does not know $verb --$option"
		grep -qe "--$option" "$completions/_faultline-vmm" || fail "zsh: $verb --$option"
		grep -qe "-l $option" "$completions/faultline-vmm.fish" || fail "fish: $verb --$option"
		[[ $option = help ]] || grep -qe "--$option" "$page" || fail "man page: $verb --$option"
	done < <("$vmm" "$verb" --help | grep -oE '^  --[a-z-]+' | cut -c5-)
done < <("$vmm" --help | grep -E '^  [a-z]')
((verbs == 6)) || fail "$verbs verbs"
