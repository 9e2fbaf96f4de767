/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Replaces kernel.h where bcc compiles in the guest: the kernel's own headers
 * define the types, and each field is read by a plain copy.
 * agent/kernel/bcc/source.py prepares the rest: functions, maps, constants.
 */
#ifndef FIM_BCC_H
#define FIM_BCC_H

#include <uapi/linux/bpf.h>
#include <uapi/linux/ptrace.h>
#include <linux/binfmts.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/fdtable.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mount.h>
#include <linux/nsproxy.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/signal.h>
#include <linux/user_namespace.h>
#include <linux/xattr.h>

/*
 * fs_context.h needs nothing of security.h, which includes linux/bpf.h. From 6.10
 * that does not compile beside uapi/linux/bpf.h, of which bcc has an older copy.
 */
#define __LINUX_SECURITY_H
#include <linux/fs_context.h>

/* drift.h defines the same numbers. */
#undef FMODE_OPENED
#undef FMODE_WRITE
#undef FMODE_EXEC
#undef FMODE_CREATED
#undef FMODE_NOACCOUNT
#define OVERLAYFS_SUPER_MAGIC 0x794c7630

/* With bcc only global functions are possible, which the verifier checks alone. */
#define FIM_ONCE static __always_inline

#define FIM_TAILS(family)	 0
#define FIM_JUDGES_APART(family) 0

#define FIM_PARM6(regs) PT_REGS_PARM6(regs)

#ifndef barrier_var
#define barrier_var(var) asm volatile("" : "+r"(var))
#endif

/*
 * Structures that no public header defines. Their first fields are the same from
 * 5.10 to 7.3; agent/kernel/bcc/layout.py finds the others in the running kernel's
 * memory.
 */
struct nameidata___lookup {
	struct path path;
	struct qstr last;
};

#define pt_regs___called pt_regs

#define FIM_LOOKS_UP(nd, filename) 1 /* where its name lies is not known */

struct mnt_namespace {
	char before[FIM_NAMESPACE_INUM];
	struct {
		unsigned int inum;
	} ns;
};

struct mount {
	union {
		struct {
			struct hlist_node mnt_hash;
			struct mount *mnt_parent;
			struct dentry *mnt_mountpoint;
			struct vfsmount mnt;
		};
		struct {
			char before_ns[FIM_MOUNT_NS];
			struct mnt_namespace *mnt_ns;
		};
		struct {
			char before_id[FIM_MOUNT_ID];
			int mnt_id;
		};
	};
};

struct open_flags {
	int open_flag;
	umode_t mode;
};

/* Copies a field; the comma removes `const` from its type. */
#define fim_read(from, field)                                                                                \
	({                                                                                                   \
		__typeof__((0, (from)->field)) value_ = 0;                                                   \
		bpf_probe_read_kernel(&value_, sizeof(value_), (const void *)&(from)->field);                \
		value_;                                                                                      \
	})

#define FIM_READ_1(from, a)			fim_read(from, a)
#define FIM_READ_2(from, a, b)			fim_read(FIM_READ_1(from, a), b)
#define FIM_READ_3(from, a, b, c)		fim_read(FIM_READ_2(from, a, b), c)
#define FIM_READ_4(from, a, b, c, d)		fim_read(FIM_READ_3(from, a, b, c), d)
#define FIM_READER(_1, _2, _3, _4, reader, ...) reader
#define BPF_CORE_READ(from, ...)                                                                             \
	FIM_READER(__VA_ARGS__, FIM_READ_4, FIM_READ_3, FIM_READ_2, FIM_READ_1)(from, __VA_ARGS__)

#define bpf_core_field_offset(type, field) offsetof(type, field)
#define bpf_core_type_size(type)	   sizeof(type)

/* Asked in one place only: whether vfs_setxattr() and others take the mount's identities first. */
#define bpf_core_field_exists(field)                                                                         \
	(!__builtin_types_compatible_p(__typeof__(vfs_setxattr),                                             \
				       int(struct dentry *, const char *, const void *, size_t, int)))

/* No section but that of constants: the array is found by its number, which source.py passes. */
#define fim_cell(map, index, count)                                                                          \
	({                                                                                                   \
		__u32 key_ = (index) & ((count)-1);                                                          \
		bpf_map_lookup_elem(map, &key_);                                                             \
	})

/* Instead of read.h: no kernel that needs the other way lets bcc's programs be attached. */
#define FIM_READS_BY_CAST			    0
#define fim_read_kernel(to, size, from)		    bpf_probe_read_kernel(to, size, from)
#define fim_copy(to, size, from)		    bpf_probe_read_kernel(to, size, from)
#define fim_copy_some(to, size, from)		    bpf_probe_read_kernel(to, size, from)
#define fim_copy_text(to, size, from, place)	    bpf_probe_read_kernel(to, size, from)
#define fim_read_string(to, size, from, place)	    bpf_probe_read_kernel_str(to, size, from)
#define fim_read_long_string(to, size, from, place) bpf_probe_read_kernel_str(to, size, from)

#endif /* FIM_BCC_H */
