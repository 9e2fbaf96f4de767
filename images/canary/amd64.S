/* SPDX-License-Identifier: Apache-2.0
 *
 * A program that a working accelerator runs in a millisecond: does what every kernel does first, switches to long
 * mode with paging on, then counts, says so on the serial port and powers off.
 *
 * Both parts matter. There are hosts whose /dev/kvm aborts, hosts where it stops at the mode switch, and hosts where
 * it takes a millisecond for each instruction: all create a machine, none boots a kernel.
 *
 * Entered by the Multiboot protocol (version 1): 32-bit protected mode, paging off, ELF loaded as linked.
 */
#define MULTIBOOT_MAGIC 0x1BADB002
#define SERIAL 0x3f8
#define TABLES 0x200000
#define COUNT 2000000

	.code32
	.globl _start
	.text
	.align 4
	.long MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC
_start:
	cli
	/* One table of each level, identity for the first GiB in pages of 2 MiB. */
	mov $TABLES, %edi
	xor %eax, %eax
	mov $(3 * 1024), %ecx
	rep stosl
	movl $(TABLES + 0x1003), TABLES
	movl $(TABLES + 0x2003), TABLES + 0x1000
	mov $(TABLES + 0x2000), %edi
	mov $0x83, %eax
	mov $512, %ecx
page:
	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop page

	mov $TABLES, %eax
	mov %eax, %cr3
	mov %cr4, %eax
	or $0x20, %eax		/* PAE */
	mov %eax, %cr4
	mov $0xc0000080, %ecx	/* EFER */
	rdmsr
	or $0x100, %eax		/* LME */
	wrmsr
	mov %cr0, %eax
	or $0x80000000, %eax	/* PG */
	mov %eax, %cr0
	lgdt gdt_pointer
	ljmp $8, $long_mode

	.code64
long_mode:
	mov $COUNT, %rcx
count:
	dec %rcx
	jnz count

	mov $SERIAL, %dx
	lea message(%rip), %rsi
	mov $(message_end - message), %ecx
print:
	lodsb
	out %al, %dx
	loop print
halt:
	hlt
	jmp halt

message:
	.ascii "fim-canary: alive\n"
message_end:

	.align 8
gdt:
	.quad 0, 0x00af9a000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt
