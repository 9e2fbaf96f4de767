/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the names of an operation on names lie: the directory that the kernel
 * found for each, or the object itself for the old name of a link, and for a
 * change that a read-only mount refuses. If the kernel then refuses the operation,
 * its path is that directory's with the name, or the object's, whatever links led
 * there.
 *
 * They are found by thread, and noted anew for each name, so that those of an
 * earlier operation are never used.
 */
#ifndef FIM_FOUND_H
#define FIM_FOUND_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "path.h"

struct fim_found {
	struct path *out;      /* where the kernel puts what it finds: on the stack of the call */
	struct dentry *dentry; /* what it found, or NULL */
	struct mount *mount;
	struct inode *inode;
	struct dentry *parent;
	__u64 name_hash;
};

struct fim_found_names {
	struct fim_found of[FIM_FILES];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* thread */
	__type(value, struct fim_found_names);
} found_names SEC(".maps");

static __always_inline struct fim_found *fim_found_of(__u32 which)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct fim_found_names *known = bpf_map_lookup_elem(&found_names, &tid);

	if (!known)
		return NULL;
	barrier_var(known); /* the verifier refuses an offset to what may be NULL: LLVM would add it before */
	return &known->of[fim_index(which, FIM_FILES)];
}

/* Notes where the kernel will put what it finds for a name. Without room the caller's text is all that is
 * known. */
__noinline int fim_found_expect(__u32 which, __u64 out)
{
	struct fim_found *place = fim_found_of(which);
	__u32 tid = bpf_get_current_pid_tgid();
	struct fim_found_names fresh = {};

	if (!place) {
		bpf_map_update_elem(&found_names, &tid, &fresh, BPF_ANY);
		place = fim_found_of(which);
	}
	if (!place)
		return 0;
	place->dentry = NULL;
	place->out = (void *)out;
	return 1;
}

/* Notes what the kernel has found. */
__noinline int fim_found_note(__u32 which)
{
	struct fim_found *place = fim_found_of(which);
	struct dentry *dentry;
	struct path *out;

	if (!place)
		return 0;
	out = place->out;
	dentry = BPF_CORE_READ(out, dentry);
	place->mount = fim_path_mount(out);
	place->inode = BPF_CORE_READ(dentry, d_inode);
	place->parent = BPF_CORE_READ(dentry, d_parent);
	place->name_hash = BPF_CORE_READ(dentry, d_name.hash_len);
	place->dentry = dentry;
	return 1;
}

/* Returns what was found for a name. The kernel holds it no more when the call returns: it must be the same
 * still. */
static __always_inline struct fim_found *fim_found_lookup(__u32 which)
{
	struct fim_found *place = fim_found_of(which);
	struct dentry *dentry;

	if (!place)
		return NULL;
	dentry = place->dentry;
	if (!dentry || BPF_CORE_READ(dentry, d_inode) != place->inode ||
	    BPF_CORE_READ(dentry, d_parent) != place->parent ||
	    BPF_CORE_READ(dentry, d_name.hash_len) != place->name_hash)
		return NULL;
	return place;
}

#endif /* FIM_FOUND_H */
