#!/bin/sh
# SPDX-License-Identifier: MIT
# embed.sh INPUT OUTPUT: the bytes of a file as a C array.
set -eu
{
	echo '/* Made by embed.sh. */'
	echo 'extern const unsigned char vmm_payload_image[];'
	echo 'extern const unsigned long vmm_payload_image_len;'
	echo 'const unsigned char vmm_payload_image[] = {'
	od -An -v -tx1 "$1" | sed 's/ \([0-9a-f][0-9a-f]\)/0x\1,/g'
	echo '};'
	echo 'const unsigned long vmm_payload_image_len = sizeof(vmm_payload_image);'
} >"$2"
