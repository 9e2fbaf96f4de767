/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Hashes of names and of paths; agent/kernel/hashing.py computes the same, and
 * a test compares them.
 *
 * A component is hashed by its 8-byte little-endian words, the last one padded
 * with zeros, starting from its length. A path folds the hashes of its
 * components from the root down, so that one pass gives the hash of each
 * directory above. Two names with one hash forward too much, never too little.
 */
#ifndef FIM_HASH_H
#define FIM_HASH_H

#include "maps.h"

#define FIM_HASH_SEED  0x9e3779b97f4a7c15ULL
#define FIM_HASH_PRIME 0xff51afd7ed558ccdULL
#define FIM_HASH_WORDS (FIM_NAME_SIZE / 8)

static __always_inline __u64 fim_mix(__u64 hash, __u64 word)
{
	hash = (hash ^ word) * FIM_HASH_PRIME;
	return hash ^ (hash >> 32);
}

/* Of the `length` bytes at the start of a slot's name buffer. */
static __always_inline __u64 fim_hash_name(const char *name, __u32 length)
{
	__u64 hash = fim_mix(FIM_HASH_SEED, length);
	const __u64 *words = (const __u64 *)name;
	__u32 i, rest;
	__u64 word;

	for (i = 0; i < FIM_HASH_WORDS; i++) {
		if (i * 8 >= length)
			break;
		word = words[i];
		rest = length - i * 8;
		if (rest < 8)
			word &= (1ULL << (rest * 8)) - 1;
		hash = fim_mix(hash, word);
	}
	return hash;
}

#endif /* FIM_HASH_H */
