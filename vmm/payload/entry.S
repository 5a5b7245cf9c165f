/* SPDX-License-Identifier: MIT */
/* The first instructions of a vCPU: long mode, rdi = its number, rsp = its stack. */
	.section .text.entry, "ax", @progbits
	.globl _start
_start:
	movq	%rdi, %rbx
1:	movq	%rbx, %rdi
	call	payload_start
	hlt
	jmp	1b
	.section .note.GNU-stack, "", @progbits
