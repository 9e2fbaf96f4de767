/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Copies kernel memory at a mount, or at an address that user space gives, for
 * agent/kernel/bcc/layout.py, which finds fields there that are in no header.
 */
#include <uapi/linux/bpf.h>
#include <uapi/linux/ptrace.h>

#define FIM_MEMORY_BYTES 512
#define FIM_MOUNT_MNT	 32 /* offset of the public part in struct mount */

struct fim_memory {
	__u32 pid;     /* of the requesting process */
	__u32 done;    /* 1 once the memory is copied */
	__u64 address; /* 0: the mount of the path that the function takes */
	char bytes[FIM_MEMORY_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fim_memory);
} memory SEC(".maps");

/* security_inode_getattr(const struct path *path), which begins with its mount */
int on_kprobe__memory(void *ctx)
{
	struct fim_memory *request;
	__u64 address;
	__u32 zero = 0;

	request = bpf_map_lookup_elem(&memory, &zero);
	/* Once: overlayfs calls the function again for its lower file. */
	if (!request || request->done || request->pid != bpf_get_current_pid_tgid() >> 32)
		return 0;
	address = request->address;
	if (!address) {
		bpf_probe_read_kernel(&address, sizeof(address),
				      (void *)PT_REGS_PARM1((struct pt_regs *)ctx));
		address -= FIM_MOUNT_MNT;
	}
	request->done = !bpf_probe_read_kernel(request->bytes, sizeof(request->bytes), (void *)address);
	return 0;
}
