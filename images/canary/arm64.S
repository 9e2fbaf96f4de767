/* SPDX-License-Identifier: Apache-2.0
 *
 * The canary of amd64.S for QEMU's "virt" machine with a GICv3. It prints "begin" on the PL011, does the work of an
 * early boot (reads of identification and other system registers, page faults, plain instructions, device accesses,
 * waiting in WFI for interrupts of the virtual timer), and prints "alive".
 *
 * The entry state is that of an arm64 Linux image: EL1 with the MMU off. It is linked to 0x40080000.
 */
#define UART 0x09000000
#define GIC_DISTRIBUTOR 0x08000000
#define GIC_REDISTRIBUTOR 0x080a0000
#define TABLES 0x40400000	/* level 1, then levels 2 and 3 of the third GiB */
#define PAGE_TABLE (TABLES + 0x2000)
#define STACK 0x40500000
#define FRAMES 0x40800000	/* the memory that pages of the third GiB are mapped to */
#define WINDOW 0x80000000
#define PAGES 512
#define ROUNDS 4
#define COUNT 8000000		/* loop iterations of each round */
#define TICKS 5
#define TIMER 27		/* the virtual timer's private interrupt */

	.globl _start
	.text
_start:
	ldr x0, =STACK
	mov sp, x0
	adr x0, vectors
	msr vbar_el1, x0

	/* Map two GiB to themselves: devices, then memory. The third GiB has one table of small pages, none present. */
	ldr x0, =TABLES
	mov x1, #(3 * 512)
clear:
	str xzr, [x0], #8
	subs x1, x1, #1
	b.ne clear
	ldr x0, =TABLES
	mov x1, #0x401			/* a block of device memory, accessed */
	str x1, [x0]
	ldr x1, =(0x40000000 | 0x705)	/* a block of normal memory, inner shareable */
	str x1, [x0, #8]
	ldr x1, =(TABLES + 0x1003)
	str x1, [x0, #16]
	ldr x1, =(TABLES + 0x2003)
	str x1, [x0, #0x1000]
	ldr x1, =0xff00			/* attribute 0: device, 1: normal, write-back */
	msr mair_el1, x1
	ldr x1, =0x80803519		/* 39 bits of addresses, pages of 4 KiB, TTBR1 off */
	msr tcr_el1, x1
	msr ttbr0_el1, x0
	dsb sy
	isb
	mrs x0, sctlr_el1
	mov x1, #0x1005			/* MMU and both caches */
	orr x0, x0, x1
	msr sctlr_el1, x0
	isb

	adr x2, begin
	bl print

	mov x20, #ROUNDS
round:
	/* Unmap all pages of the window, so that each access to a page faults once in each round. */
	ldr x0, =PAGE_TABLE
	mov x1, #PAGES
unmap:
	str xzr, [x0], #8
	subs x1, x1, #1
	b.ne unmap
	dsb ish
	tlbi vmalle1
	dsb ish
	isb
	ldr x21, =WINDOW
	ldr x22, =(WINDOW + PAGES * 0x1000)
touch:
	str x20, [x21]
	tst x21, #0x3000
	b.ne next_page
	/* Identification registers, registers that hypervisors may trap, and a device. */
	mrs x0, midr_el1
	mrs x0, id_aa64mmfr0_el1
	mrs x0, contextidr_el1
	msr contextidr_el1, x0
	ldr x1, =UART
	ldr w0, [x1, #0x18]		/* its flags */
next_page:
	add x21, x21, #0x1000
	cmp x21, x22
	b.ne touch

	ldr x0, =COUNT
count:
	subs x0, x0, #1
	b.ne count
	subs x20, x20, #1
	b.ne round

	/* Wake this processor's redistributor, and enable the timer's interrupt in group 1. */
	ldr x0, =GIC_DISTRIBUTOR
	mov w1, #0x13			/* both groups, affinity routing */
	str w1, [x0]
	ldr x0, =GIC_REDISTRIBUTOR
	ldr w1, [x0, #0x14]
	bic w1, w1, #2
	str w1, [x0, #0x14]
awake:
	ldr w1, [x0, #0x14]
	tbnz w1, #2, awake
	add x0, x0, #0x10000
	mov w1, #-1
	str w1, [x0, #0x80]
	mov w1, #(1 << TIMER)
	str w1, [x0, #0x100]
	mov x1, #1
	msr s3_0_c12_c12_5, x1		/* ICC_SRE_EL1 */
	isb
	mov x1, #0xff
	msr s3_0_c4_c6_0, x1		/* ICC_PMR_EL1 */
	mov x1, #1
	msr s3_0_c12_c12_7, x1		/* ICC_IGRPEN1_EL1 */
	isb
	mov x23, #0
	bl next_tick
	mov x1, #1
	msr cntv_ctl_el0, x1
	isb
wait:
	wfi
	msr daifclr, #2
	isb
	msr daifset, #2
	cmp x23, #TICKS
	b.lo wait

	adr x2, alive
	bl print
halt:
	wfi
	b halt

/* Prints the string at x2. */
print:
	ldr x1, =UART
next_byte:
	ldrb w3, [x2], #1
	cbz w3, printed
	str w3, [x1]
	b next_byte
printed:
	ret

/* Sets the timer to interrupt in a millisecond. */
next_tick:
	mrs x0, cntfrq_el0
	mov x1, #1000
	udiv x0, x0, x1
	msr cntv_tval_el0, x0
	isb
	ret

/* Maps the page whose access faulted. */
page_fault:
	mrs x10, far_el1
	ubfx x10, x10, #12, #9
	ldr x11, =(FRAMES | 0x707)	/* normal memory, inner shareable, accessed */
	add x11, x11, x10, lsl #12
	ldr x12, =PAGE_TABLE
	str x11, [x12, x10, lsl #3]
	dsb ishst
	isb
	eret

timer:
	mrs x13, s3_0_c12_c12_0		/* ICC_IAR1_EL1 */
	add x23, x23, #1
	mov x14, x30
	bl next_tick
	mov x30, x14
	msr s3_0_c12_c12_1, x13		/* ICC_EOIR1_EL1 */
	isb
	eret

	/* The fifth and sixth entry are for exceptions of EL1 on its own stack; other exceptions are not expected. */
	.align 11
vectors:
	.rept 4
	b halt
	.align 7
	.endr
	b page_fault
	.align 7
	b timer
	.align 7
	.rept 10
	b halt
	.align 7
	.endr

begin:
	.asciz "fim-canary: begin\n"
alive:
	.asciz "fim-canary: alive\n"
