/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Paths, read from the kernel's dentries and mounts.
 *
 * A walk goes from a dentry up to the root of its mount namespace and appends
 * each component to the record. It consists of global functions, which the
 * verifier checks once each and not once an iteration: a walk of 512 steps with
 * its hashes costs about seven hundred verified instructions. With inlining it
 * would cost that for each step. Global functions take numbers, because 5.10 and 5.11 refuse pointers:
 * where one needs a pointer its name begins with __, and a typed function
 * of the same name calls it.
 */
#ifndef FIM_PATH_H
#define FIM_PATH_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "hash.h"

#define FIM_ANONYMOUS                                                                                        \
	0xeffffff7	 /* from 6.18 the number of all anonymous namespaces; they had none before           \
			  */
#define FIM_WALK_CHUNK 8 /* cubed: components and mount points */

#define MNT_READONLY 0x40 /* of a mount, include/linux/mount.h */
#define MS_RDONLY    1	  /* of a file system, and of mount(2), include/uapi/linux/mount.h */

static __always_inline struct mount *fim_real_mount(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

/* Returns the mount that a path lies on. */
static __always_inline struct mount *fim_path_mount(struct path *path)
{
	return fim_real_mount(BPF_CORE_READ(path, mnt));
}

static __always_inline void fim_flag_file(struct fim_slot *slot, __u32 flag)
{
	slot->event.file[slot->which & 1].flags |= flag;
}

/* Appends the component that starts at `name`. Returns 0 if it does not fit. */
static __always_inline int fim_append(struct fim_slot *slot, __u32 index, const void *name)
{
	__u64 used = slot->used;
	__u64 depth = slot->depth;
	long size;

	if (used > FIM_PAYLOAD_MAX - FIM_NAME_SIZE || depth >= FIM_DEPTH_MAX)
		return 0;
	size = fim_read_string(slot->name, FIM_NAME_SIZE, name, &slot->place);
	if (size < 2)
		return 0;
	barrier_var(size); /* keeps both bounds: the verifier needs each of them */
	if (size > FIM_NAME_SIZE)
		return 0;
	if (used - slot->start + size > FIM_PATH_MAX)
		return 0;
	fim_copy_text(slot->payload + used, size, slot->name, &slot->place);
	slot->hashes[fim_index(depth, FIM_DEPTH_MAX)] = fim_hash_name(slot, index, size - 1);
	slot->used = used + size;
	slot->depth = depth + 1;
	return 1;
}

/* Whether the kernel made a mount for itself, as overlayfs does for its layers: its namespace is an error. */
static __always_inline int fim_is_internal(struct mount *mount)
{
	return (__u64)BPF_CORE_READ(mount, mnt_ns) >= (__u64)-MAX_ERRNO;
}

/* Whether a namespace holds a tree of mounts that fsmount(2) or open_tree(2) made and that is attached
 * nowhere. */
static __always_inline int fim_is_anonymous(struct mnt_namespace *ns)
{
	__u32 number = BPF_CORE_READ(ns, ns.inum);

	return !number || number == FIM_ANONYMOUS;
}

/* Ends a walk at its top. Internal mounts, and those that were unmounted lazily, are in no namespace. */
static __always_inline int fim_walk_end(struct fim_slot *slot, struct mount *mount)
{
	struct mnt_namespace *ns = BPF_CORE_READ(mount, mnt_ns);

	if (!ns || fim_is_internal(mount) || fim_is_anonymous(ns))
		fim_flag_file(slot, FIM_DETACHED);
	return 0;
}

static __always_inline char fim_first_byte(const void *text)
{
	char byte = 0;

	fim_read_kernel(&byte, sizeof(byte), text);
	return byte;
}

/* Goes one step up: over a mount point, or past a component. Returns 0 at the end. */
__noinline int fim_walk_step(__u32 index)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct mount *mount, *below;
	struct fim_entry *entry;
	struct dentry *dentry;
	int top, fits = 1;

	if (!slot)
		return 0;
	dentry = slot->dentry;
	mount = slot->mount;
	if (dentry == slot->top) {
		below = BPF_CORE_READ(mount, mnt_parent);
		if (below == mount)
			return fim_walk_end(slot, mount);
		slot->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		slot->mount = below;
		slot->top = BPF_CORE_READ(below, mnt.mnt_root);
		return 1;
	}
	entry = &slot->entry; /* the stack has no room */
	fim_entry_read(entry, dentry);
	top = entry->parent == dentry;
	/* A file without a directory, as memfd_create(2) makes it, has a name all the same. */
	if (!top || (!slot->depth && fim_first_byte(entry->name) != '/'))
		fits = fim_append(slot, index, entry->name);
	if (top)
		fim_flag_file(slot, FIM_DETACHED);
	else if (!fits)
		fim_flag_file(slot, FIM_TRUNCATED);
	slot->dentry = entry->parent;
	return fits && !top;
}

__noinline int fim_walk_chunk(__u32 index)
{
	int i;

	for (i = 0; i < FIM_WALK_CHUNK; i++)
		if (!fim_walk_step(index))
			return 0;
	return 1;
}

__noinline int fim_walk_stretch(__u32 index)
{
	int i;

	for (i = 0; i < FIM_WALK_CHUNK; i++)
		if (!fim_walk_chunk(index))
			return 0;
	return 1;
}

static __always_inline void fim_walk_begin(struct fim_slot *slot, __u32 which, struct dentry *dentry,
					   struct mount *mount)
{
	slot->which = which;
	slot->dentry = dentry;
	slot->mount = mount;
	slot->top = BPF_CORE_READ(mount, mnt.mnt_root);
	slot->start = slot->used;
	slot->depth = 0;
	slot->folded = 0;
}

/* Walks to the top and notes where the path lies in the payload. */
__noinline int fim_walk_rest(__u32 index)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_text *path;
	int i;

	if (!slot)
		return 0;
	for (i = 0; i < FIM_WALK_CHUNK; i++)
		if (!fim_walk_stretch(index))
			break;
	if (i == FIM_WALK_CHUNK)
		fim_flag_file(slot, FIM_TRUNCATED);
	path = &slot->event.file[slot->which & 1].path;
	path->offset = slot->start;
	path->length = slot->used - slot->start;
	return 1;
}

__noinline int __fim_append_text(__u32 index, __u64 address, __u32 at)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_text *text;
	__u32 used;
	long size;

	if (!slot || !address || at + sizeof(*text) > sizeof(slot->event))
		return 0;
	used = slot->used;
	if (used > FIM_PAYLOAD_MAX - FIM_PATH_MAX)
		return 0;
	size = fim_read_long_string(slot->payload + used, FIM_PATH_MAX, (void *)address, &slot->place);
	if (size < 1)
		return 0;
	text = (void *)&slot->event + at;
	text->offset = used;
	text->length = size;
	slot->used = used + size;
	return 1;
}

/* Appends a string from the kernel's memory; `at` is the offset of its struct fim_text in the event. */
static __always_inline int fim_append_text(__u32 index, const char *address, __u32 at)
{
	return __fim_append_text(index, (__u64)address, at);
}

#endif /* FIM_PATH_H */
