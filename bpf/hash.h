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

/*
 * Of the `length` bytes at the start of a name buffer, which has room for one
 * more word. The padding is written behind the name first, so that the loop
 * has only one way out: each further one would double what there is to verify.
 */
static __always_inline __u64 fim_hash_name(char *name, __u64 length)
{
	__u64 hash = fim_mix(FIM_HASH_SEED, length);
	const __u64 *words = (const __u64 *)name;
	__u64 i, count;

	if (length >= FIM_NAME_SIZE)
		return 0;
	*(__u64 *)(name + length) = 0;
	count = (length + 7) / 8;
	for (i = 0; i < FIM_HASH_WORDS; i++) {
		if (i >= count)
			break;
		hash = fim_mix(hash, words[i]);
	}
	return hash;
}

#endif /* FIM_HASH_H */
