/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a name and a path are in the kernel's memory. Their fields lie side by side on
 * kernels that do not randomize structures, and one read of all costs as much as of one.
 */
#ifndef FIM_ENTRY_H
#define FIM_ENTRY_H

#include "kernel.h"

struct fim_entry {
	struct dentry *parent;
	__u64 name_hash; /* hash and length */
	const unsigned char *name;
	struct inode *inode; /* or NULL */
};

struct fim_spot {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

/* Where a lookup has got to, and the name that follows. */
struct fim_look {
	struct fim_spot spot;
	__u64 name_hash;
	const unsigned char *name;
};

#define FIM_BEHIND(type, first, field)                                                                       \
	(bpf_core_field_offset(type, field) - bpf_core_field_offset(type, first))

/* Functions of their own: each has a branch that the kernel removes as it loads the program. */
FIM_ONCE void fim_entry_read(struct fim_entry *to, struct dentry *dentry)
{
	if (!FIM_READS_BY_CAST &&
	    FIM_BEHIND(struct dentry, d_parent, d_name.hash_len) == offsetof(struct fim_entry, name_hash) &&
	    FIM_BEHIND(struct dentry, d_parent, d_name.name) == offsetof(struct fim_entry, name) &&
	    FIM_BEHIND(struct dentry, d_parent, d_inode) == offsetof(struct fim_entry, inode)) {
		fim_copy_some(to, sizeof(*to),
			      (void *)dentry + bpf_core_field_offset(struct dentry, d_parent));
		return;
	}
	to->parent = BPF_CORE_READ(dentry, d_parent);
	to->name_hash = BPF_CORE_READ(dentry, d_name.hash_len);
	to->name = BPF_CORE_READ(dentry, d_name.name);
	to->inode = BPF_CORE_READ(dentry, d_inode);
}

FIM_ONCE void fim_spot_read(struct fim_spot *to, struct path *path)
{
	if (!FIM_READS_BY_CAST && !bpf_core_field_offset(struct path, mnt) &&
	    bpf_core_field_offset(struct path, dentry) == offsetof(struct fim_spot, dentry)) {
		fim_copy_some(to, sizeof(*to), path);
		return;
	}
	to->mnt = BPF_CORE_READ(path, mnt);
	to->dentry = BPF_CORE_READ(path, dentry);
}

FIM_ONCE void fim_look_read(struct fim_look *to, struct nameidata___lookup *nd)
{
	if (!FIM_READS_BY_CAST && !bpf_core_field_offset(struct nameidata___lookup, path.mnt) &&
	    bpf_core_field_offset(struct nameidata___lookup, path.dentry) ==
		    offsetof(struct fim_look, spot.dentry) &&
	    bpf_core_field_offset(struct nameidata___lookup, last.name) == offsetof(struct fim_look, name)) {
		fim_copy_some(to, sizeof(*to), nd);
		return;
	}
	to->spot.mnt = BPF_CORE_READ(nd, path.mnt);
	to->spot.dentry = BPF_CORE_READ(nd, path.dentry);
	to->name = BPF_CORE_READ(nd, last.name);
}

#endif /* FIM_ENTRY_H */
