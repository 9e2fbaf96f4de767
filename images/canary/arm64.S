/* SPDX-License-Identifier: Apache-2.0
 *
 * The same canary as amd64.S for QEMU's "virt" machine: counts, then says so on the PL011.
 * Entered as an arm64 Linux image would be: MMU off, anywhere in memory.
 */
#define UART 0x09000000
#define COUNT 2000000

	.globl _start
	.text
_start:
	ldr x0, =COUNT
count:
	subs x0, x0, #1
	b.ne count

	ldr x1, =UART
	adr x2, message
print:
	ldrb w3, [x2], #1
	cbz w3, halt
	str w3, [x1]
	b print
halt:
	wfi
	b halt

message:
	.asciz "fim-canary: alive\n"
