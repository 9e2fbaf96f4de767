/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Hashes of names and paths. agent/kernel/path_hash.py computes the same, and a
 * test compares them.
 *
 * The hash of a component starts from its length and mixes its 8-byte
 * little-endian words, the last one padded with zeros. The hash of a path folds
 * those of its components from the root down, so that one pass gives the hash
 * of each directory above. Two names with the same hash forward too much, never
 * too little.
 */
#ifndef FIM_HASH_H
#define FIM_HASH_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"

#define FIM_HASH_SEED  0x9e3779b97f4a7c15ULL
#define FIM_HASH_PRIME 0xff51afd7ed558ccdULL

static __always_inline __u64 fim_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * FIM_HASH_PRIME;
	return hash ^ (hash >> 32);
}

#define FIM_HASH_CHUNK 8

/* Mixes up to FIM_HASH_CHUNK words of the name buffer into the slot's hash. */
__noinline int fim_hash_words(__u32 index, __u32 from, __u32 end)
{
	struct fim_slot *slot = fim_slot_lookup_inline(index);
	__u32 i;

	if (!slot)
		return 0;
	for (i = 0; i < FIM_HASH_CHUNK && from + i < end; i++)
		slot->hash = fim_mix(slot->hash, slot->words[fim_index(from + i, FIM_HASH_WORDS)]);
	return 1;
}

/* Hashes the component of `length` bytes in the slot's name buffer, which has room for the padding. */
static __always_inline __u64 fim_hash_name(struct fim_slot *slot, __u32 index, __u64 length)
{
	__u32 end = (length + 7) / 8;
	__u32 from;

	if (length >= FIM_NAME_SIZE)
		return 0;
	*(__u64 *)(slot->name + length) = 0;
	slot->hash = fim_mix(FIM_HASH_SEED, length);
	for (from = 0; from < FIM_HASH_WORDS; from += FIM_HASH_CHUNK) {
		if (from >= end)
			break;
		fim_hash_words(index, from, end);
	}
	return slot->hash;
}

#define FIM_SHORT_WORDS 4 /* no name lies in less memory: it is in its dentry, or too long for that */
#define FIM_BYTES(byte) ((byte)*0x0101010101010101ULL)

/*
 * Returns the same hash of a name that ends within FIM_SHORT_WORDS, read at once and
 * without a slot; 0 for one that does not, is empty, or cannot be read.
 */
__noinline __u64 fim_hash_short(__u64 name)
{
	__u64 words[FIM_SHORT_WORDS] = {};
	__u64 zeros, first, hash;
	__u32 i, end, length;

	if (fim_copy_some(words, sizeof(words), (void *)name))
		return 0;
	for (end = 0; end < FIM_SHORT_WORDS; end++) {
		/* The lowest bit that is set is the upper one of the first byte that is zero. */
		zeros = (words[end] - FIM_BYTES(0x01)) & ~words[end] & FIM_BYTES(0x80);
		if (zeros)
			goto ends;
	}
	return 0;
ends:
	first = (zeros & -zeros) >> 7; /* 1 << 8 * n, for the nth byte */
	words[end] &= first - 1;
	length = end * 8 + (first * 0x0001020304050607ULL >> 56);
	if (!length)
		return 0;
	hash = fim_mix(FIM_HASH_SEED, length);
	for (i = 0; i < FIM_SHORT_WORDS; i++)
		if (i * 8 < length)
			hash = fim_mix(hash, words[i]);
	return hash;
}

#endif /* FIM_HASH_H */
