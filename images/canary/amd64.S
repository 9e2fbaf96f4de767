/* SPDX-License-Identifier: Apache-2.0
 *
 * A small kernel that does the work of an early boot in the same proportions, so that its running time predicts how
 * fast an accelerator boots a real kernel. It prints "begin" on the serial port, does this work, and prints "alive":
 *
 *	1. enters long mode with paging;
 *	2. runs rounds of CPUID, reads and writes of MSRs, port I/O, page faults and plain instructions;
 *	3. waits in HLT for interrupts of the timer (PIT through the PIC).
 *
 * Each part is needed. On some hosts /dev/kvm aborts, on some it hangs at the mode switch, and on some it needs a
 * microsecond for each instruction. All of them can create a machine, and none can boot a kernel.
 *
 * The entry state is that of the Multiboot protocol, version 1: 32-bit protected mode, paging off, ELF loaded as linked.
 */
#define MULTIBOOT_MAGIC 0x1BADB002
#define SERIAL 0x3f8
#define TABLES 0x200000		/* PML4, PDPT, PD of the first GiB, PD and PT of the second */
#define PAGE_TABLE (TABLES + 0x4000)
#define IDT 0x210000
#define STACK 0x220000
#define FRAMES 0x800000		/* the memory that pages of the second GiB are mapped to */
#define WINDOW 0x40000000
#define PAGES 512
#define ROUNDS 4
#define COUNT 8000000		/* loop iterations of each round */
#define TICKS 5
#define TICK 1193		/* a millisecond, in the PIT's clock */

	.code32
	.globl _start
	.text
	.align 4
	.long MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC
_start:
	cli
	/* Map the first GiB to itself in pages of 2 MiB. The second GiB has one table of small pages, none present. */
	mov $TABLES, %edi
	xor %eax, %eax
	mov $(5 * 1024), %ecx
	rep stosl
	movl $(TABLES + 0x1003), TABLES
	movl $(TABLES + 0x2003), TABLES + 0x1000
	movl $(TABLES + 0x3003), TABLES + 0x1008
	movl $(TABLES + 0x4003), TABLES + 0x3000
	mov $(TABLES + 0x2000), %edi
	mov $0x83, %eax
	mov $512, %ecx
large_page:
	mov %eax, (%edi)
	add $0x200000, %eax
	add $8, %edi
	loop large_page

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
	xor %eax, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $STACK, %esp

	/* The interrupt descriptor table has two gates: for page faults and for the timer's interrupt. */
	mov $IDT, %edi
	mov $(256 * 16 / 8), %ecx
	rep stosq
	lea page_fault(%rip), %rax
	mov $(IDT + 14 * 16), %edi
	call set_gate
	lea timer(%rip), %rax
	mov $(IDT + 32 * 16), %edi
	call set_gate
	lidt idt_pointer(%rip)

	lea begin(%rip), %rsi
	call print

	mov $ROUNDS, %r12d
round:
	/* Unmap all pages of the window, so that each access to a page faults once in each round. */
	mov $PAGE_TABLE, %edi
	xor %eax, %eax
	mov $PAGES, %ecx
	rep stosq
	mov %cr3, %rax
	mov %rax, %cr3
	mov $WINDOW, %r13d
touch:
	movl $1, (%r13)

	/* CPUID, and MSRs that hypervisors intercept. */
	test $0x3000, %r13d
	jnz next_page
	xor %eax, %eax
	cpuid
	mov $0x1b, %ecx		/* APIC base */
	rdmsr
	wrmsr
	mov $0xc0000080, %ecx	/* EFER */
	rdmsr
	mov $(SERIAL + 5), %edx	/* line status */
	in %dx, %al
	out %al, $0x80		/* an unused port; kernels write to it as a delay */
next_page:
	add $0x1000, %r13
	cmp $(WINDOW + PAGES * 0x1000), %r13
	jne touch

	mov $COUNT, %rcx
count:
	dec %rcx
	jnz count
	dec %r12d
	jnz round

	/* The PIC's first interrupt becomes vector 32, and all others are masked. The PIT interrupts once a millisecond. */
	mov $0x11, %al
	out %al, $0x20
	mov $32, %al
	out %al, $0x21
	mov $4, %al
	out %al, $0x21
	mov $1, %al
	out %al, $0x21
	mov $0xfe, %al
	out %al, $0x21
	mov $0x34, %al
	out %al, $0x43
	mov $(TICK & 0xff), %al
	out %al, $0x40
	mov $(TICK >> 8), %al
	out %al, $0x40
	xor %r14d, %r14d
wait:
	sti
	hlt
	cli
	cmp $TICKS, %r14d
	jb wait

	lea alive(%rip), %rsi
	call print
halt:
	hlt
	jmp halt

/* Prints the string at RSI. */
print:
	mov $SERIAL, %edx
next_byte:
	lodsb
	test %al, %al
	jz printed
	out %al, %dx
	jmp next_byte
printed:
	ret

/* Writes an interrupt gate for the handler at RAX, which lies below 4 GiB, to RDI. */
set_gate:
	mov %ax, (%rdi)
	movw $8, 2(%rdi)
	movw $0x8e00, 4(%rdi)
	shr $16, %eax
	mov %ax, 6(%rdi)
	ret

/* Maps the page whose access faulted. */
page_fault:
	push %rax
	push %rbx
	mov %cr2, %rax
	shr $12, %rax
	and $(PAGES - 1), %eax
	mov %rax, %rbx
	shl $12, %rbx
	add $(FRAMES + 3), %rbx
	mov %rbx, PAGE_TABLE(, %rax, 8)
	pop %rbx
	pop %rax
	add $8, %rsp		/* the error code */
	iretq

timer:
	push %rax
	inc %r14d
	mov $0x20, %al
	out %al, $0x20
	pop %rax
	iretq

begin:
	.asciz "fim-canary: begin\n"
alive:
	.asciz "fim-canary: alive\n"

	.align 8
gdt:
	.quad 0, 0x00af9a000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt
idt_pointer:
	.word 256 * 16 - 1
	.quad IDT
