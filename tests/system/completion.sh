#!/bin/bash
# SPDX-License-Identifier: MIT
# Completion knows every command and every option that --help shows, in all three shells, and each
# command has a man page that names them all.
#
# builds: plain (texts are the same in all)
. "$(dirname "$0")/../serve-functions.sh"

# shellcheck disable=SC2154 # from functions.sh
completions=$top/completions
# shellcheck source=/dev/null
. "$completions/faultline.bash"

# completes WORD... - what bash offers for the last of these words
completes() {
	COMP_WORDS=(faultline "$@")
	COMP_CWORD=$#
	_faultline faultline "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
	printf '%s\n' "${COMPREPLY[@]}"
}

[[ $(completes s) = $'serve\nstat' ]] || fail "s: $(completes s)"
[[ $(completes serve --on-failure k) = kill ]] || fail "--on-failure k"
[[ $(completes serve --log-level '') = $'error\nwarning\ninfo\ndebug' ]] || fail "--log-level"
touch "$tmp/image.mem"
[[ $(completes serve --memory "$tmp/im") = "$tmp/image.mem" ]] || fail "--memory"

while read -r command _; do
	[[ $(completes "$command") = *"$command"* ]] || fail "bash does not know $command"
	for file in _faultline faultline.fish; do
		grep -q "$command" "$completions/$file" || fail "$file does not know $command"
	done
	[[ $command != help && $command != version ]] || continue
	page=$top/man/faultline-$command.1.scd
	[[ -e $page ]] || fail "$command has no man page"
	known=$(completes "$command" --)
	while read -r option; do
		grep -qxe "--$option" <<<"$known" || fail "bash does not know $command --$option"
		grep -qe "--$option" "$completions/_faultline" || fail "zsh: $command --$option"
		grep -qe "-l $option" "$completions/faultline.fish" || fail "fish: $command --$option"
		[[ $option = help ]] || grep -qF -e "--$option" "$page" ||
			fail "the man page of $command does not name --$option"
	done < <("$faultline" "$command" --help | sed -n 's/^  [^-]*-*[a-z]*[, ]*--\([a-z-]*\).*/\1/p')
	# And it knows none that there is not.
	while read -r option; do
		grep -q -e "$option\b" <<<"$("$faultline" "$command" --help)" || fail "$command has no $option"
	done <<<"$known"
done < <("$faultline" help | sed -n 's/^  \([a-z]*\)  .*/\1/p')

for shell in zsh fish; do
	command -v $shell >/dev/null || continue
	case $shell in
	zsh) zsh -n "$completions/_faultline" ;;
	fish) fish --no-execute "$completions/faultline.fish" ;;
	esac
done

# The pages are in order, with each other too.
if command -v scdoc >/dev/null; then
	for page in "$top"/man/*.scd; do
		scdoc <"$page" >"$tmp/page" || fail "$page"
		while read -r other; do
			[[ -e $top/man/$other.scd ]] || fail "$page refers to $other, which is not there"
		done < <(grep -o '\*faultline[a-z-]*\*([0-9])' "$page" | sed 's/\*\(.*\)\*(\(.\))/\1.\2/')
	done
fi
