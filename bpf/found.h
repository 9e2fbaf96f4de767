/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the names of an operation on names lie: the directory that the kernel
 * found for each, or the object itself for the old name of a link, and for a
 * change that a read-only mount refuses. If the kernel then refuses the operation,
 * its path is that directory's with the name, or the object's, whatever links led
 * there.
 *
 * They lie beside the operation, which begins without any.
 */
#ifndef FIM_FOUND_H
#define FIM_FOUND_H

#include "kernel.h"
#include "entry.h"
#include "event.h"
#include "path.h"
#include "inflight.h"

static __always_inline struct fim_found *fim_found_of(struct fim_inflight *op, __u32 which)
{
	return &((struct fim_operation *)op)->found[fim_index(which, FIM_FILES)];
}

/* Notes where the kernel will put what it finds for a name. */
static __always_inline void fim_found_expect(struct fim_inflight *op, __u32 which, __u64 out)
{
	struct fim_found *place = fim_found_of(op, which);

	place->dentry = NULL;
	place->out = (void *)out;
}

/*
 * Whether the kernel will put what it finds there where it put this name's: on
 * the stack of the operation, so that the lookup is the operation's own.
 */
static __always_inline int fim_found_is_expected(struct fim_inflight *op, __u32 which, __u64 out)
{
	return (__u64)fim_found_of(op, which)->out == out;
}

/* Notes what the kernel has found. */
FIM_ONCE void fim_found_note(struct fim_inflight *op, __u32 which)
{
	struct fim_found *place = fim_found_of(op, which);
	struct fim_entry entry = {};
	struct fim_spot spot = {};

	fim_spot_read(&spot, place->out);
	fim_entry_read(&entry, spot.dentry);
	place->mount = fim_real_mount(spot.mnt);
	place->inode = entry.inode;
	place->parent = entry.parent;
	place->name_hash = entry.name_hash;
	place->dentry = spot.dentry;
}

/*
 * Returns what was found for a name. The kernel holds it no more when the call
 * returns: it must be the same still.
 */
static __always_inline struct fim_found *fim_found_lookup(struct fim_inflight *op, __u32 which)
{
	struct fim_found *place = fim_found_of(op, which);
	struct dentry *dentry = place->dentry;
	struct fim_entry entry = {};

	if (!dentry)
		return NULL;
	fim_entry_read(&entry, dentry);
	if (entry.inode != place->inode || entry.parent != place->parent ||
	    entry.name_hash != place->name_hash)
		return NULL;
	return place;
}

#endif /* FIM_FOUND_H */
