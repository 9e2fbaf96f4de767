/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads of the kernel's memory, in one of two ways.
 *
 * A kernel under lockdown=confidentiality refuses bpf_probe_read_kernel(). From
 * 6.2 it has bpf_rdonly_cast(): the verifier takes the address for one of a
 * structure, and a load from it gives 0 if nothing is mapped there.
 *
 * Each way has an object of its own, and the loader chooses (agent/kernel/reads.py).
 * Both ways in one object cost 39 % of what loading it takes on 6.1: the kernel
 * removes each piece of dead code by moving the rest of the program. In the object
 * with casts each cast calls a mark, which the loader turns into a call of
 * bpf_rdonly_cast(). A weak symbol would need the kernel's own BTF, which is hidden
 * where the first object is loaded with external BTF.
 *
 * Where a function does nothing with casts its callers decide that: a caller sets
 * no argument that the compiler sees unused, and the verifier refuses the call.
 *
 * Where bcc compiles, bcc.h has the first way alone.
 */
#ifndef FIM_READ_H
#define FIM_READ_H

#include "kernel.h"

#define FIM_MARK 0x46494d52 /* as in agent/kernel/reads.py */

#ifdef FIM_CASTS
#define FIM_READS_BY_CAST 1
#else
#define FIM_READS_BY_CAST 0
#endif

/* It begins with an array of characters: a load of any size from one is allowed, as far as the array goes. */
struct new_utsname {
	char sysname[65];
};

static void *(*fim_rdonly_cast)(const void *address, __u32 type) = (void *)FIM_MARK;

static __always_inline const void *fim_cast(const void *address)
{
	return fim_rdonly_cast(address, bpf_core_type_id_kernel(struct new_utsname));
}

#undef bpf_core_read
#define bpf_core_read(to, size, from)                                                                        \
	fim_read_kernel(to, size, (const void *)__builtin_preserve_access_index(from))

/* Reads a number or a pointer. It is 0 if the address is not mapped. */
static __always_inline void fim_read_kernel(void *to, __u64 size, const void *from)
{
	typedef __u64 __attribute__((may_alias)) word;
	typedef __u32 __attribute__((may_alias)) half;
	typedef __u16 __attribute__((may_alias)) quarter;

	if (!FIM_READS_BY_CAST)
		bpf_probe_read_kernel(to, size, from);
	else if (size == sizeof(word))
		*(word *)to = *(const volatile word *)fim_cast(from);
	else if (size == sizeof(half))
		*(half *)to = *(const volatile half *)fim_cast(from);
	else if (size == sizeof(quarter))
		*(quarter *)to = *(const volatile quarter *)fim_cast(from);
	else
		*(char *)to = *(const volatile char *)fim_cast(from);
}

const char fim_string_format[] = "%s";

/*
 * Writes the string at an address, at most `size` bytes with the final zero.
 * `place`, in a map, is given the address. Returns the string's size with the
 * zero, which may be larger than `size`; 1 also if the address is not mapped.
 * bpf_snprintf() reads 511 bytes at least.
 *
 * Functions of their own: inlined, they would take the registers of the callers,
 * and 5.10 forgets the bounds of what is spilled.
 */
FIM_ONCE long fim_print(void *to, __u64 size, const void *from, __u64 *place)
{
	*place = (__u64)from;
	return bpf_snprintf(to, size, fim_string_format, place, sizeof(*place));
}

#define FIM_PRINT_MAX 256 /* bytes of one call */

FIM_ONCE long fim_print_long(char *to, __u64 size, const char *from, __u64 *place)
{
	__u64 done, room;
	long length;

	for (done = 0; done + 1 < size; done += FIM_PRINT_MAX - 1) {
		room = size - done < FIM_PRINT_MAX ? size - done : FIM_PRINT_MAX;
		length = fim_print(to + done, room, from + done, place);
		if (length <= (long)room)
			return length < 1 ? length : (long)done + length;
	}
	return size;
}

FIM_ONCE void fim_copy_by_dynptr(void *to, __u64 size, void *from)
{
	struct bpf_dynptr whole;

	bpf_dynptr_from_mem(from, size, 0, &whole);
	bpf_dynptr_read(to, size, &whole, 0, 0);
}

/* Copies from a map's value to another one. */
static __always_inline void fim_copy(void *to, __u64 size, void *from)
{
	if (FIM_READS_BY_CAST)
		fim_copy_by_dynptr(to, size, from);
	else
		bpf_probe_read_kernel(to, size, from);
}

/* Copies any number of bytes. Returns 0 if it did: only where reads are not casts. */
static __always_inline long fim_copy_some(void *to, __u64 size, const void *from)
{
	return FIM_READS_BY_CAST ? -1 : bpf_probe_read_kernel(to, size, from);
}

/* Copies `size` characters, 256 at most, from a map's value; the byte behind them may become a zero. */
static __always_inline void fim_copy_text(void *to, __u64 size, const void *from, __u64 *place)
{
	if (FIM_READS_BY_CAST)
		fim_print(to, size + 1, from, place);
	else
		bpf_probe_read_kernel(to, size, from);
}

/* Reads a string of at most FIM_PRINT_MAX bytes. Returns its size with the final zero; below 2: none. */
static __always_inline long fim_read_string(void *to, __u64 size, const void *from, __u64 *place)
{
	long length;

	if (!FIM_READS_BY_CAST)
		return bpf_probe_read_kernel_str(to, size, from);
	length = fim_print(to, size, from, place);
	return length > (long)size ? size : length;
}

/* Reads a string, cut to `size` bytes. Returns its size with the final zero; below 1: none. */
static __always_inline long fim_read_long_string(char *to, __u64 size, const char *from, __u64 *place)
{
	if (FIM_READS_BY_CAST)
		return fim_print_long(to, size, from, place);
	return bpf_probe_read_kernel_str(to, size, from);
}

#endif /* FIM_READ_H */
