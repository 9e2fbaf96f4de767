// SPDX-License-Identifier: Apache-2.0
/* System calls by other ways in: 32-bit calls, io_uring, a file's handle. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fim-gen.h"

#define PAGE	   4096
#define RING_ADDR3 48 /* of struct io_uring_sqe, from 5.19: where older headers have padding */

#ifdef __x86_64__
/* What a 32-bit call points to must lie where 32 bits reach. */
static long low_copy(const struct arg *arg, int n)
{
	static char *low;

	if (!low)
		low = mmap(NULL, MAX_ARGS * PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	if (low == MAP_FAILED || arg->len >= PAGE)
		return 0; /* the kernel says EFAULT */
	memcpy(low + n * PAGE, arg->text, arg->len + 1);
	return (long)(low + n * PAGE);
}

/* int 0x80 kills a process where the kernel has no 32-bit calls. */
long run_compat(const struct op *op)
{
	long value[3] = { 0 };
	long ret = op->call->nr;

	for (int i = 0; i < op->args && i < 3; i++)
		value[i] = op->arg[i].kind == ARG_TEXT ? low_copy(&op->arg[i], i) : value_of(&op->arg[i]);
	asm volatile("int $0x80"
		     : "+a"(ret)
		     : "b"(value[0]), "c"(value[1]), "d"(value[2])
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}
#else
long run_compat(const struct op *op)
{
	(void)op;
	return -ENOSYS;
}
#endif

static struct ring {
	int fd;
	struct io_uring_params params;
	char *sq, *cq;
	struct io_uring_sqe *sqes;
} ring = { .fd = -1 };

static void *ring_part(size_t size, off_t offset)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, offset);
}

static int ring_open(void)
{
	const struct io_uring_params *p = &ring.params;

	if (ring.fd >= 0)
		return 0;
	ring.fd = (int)syscall(SYS_io_uring_setup, 1, &ring.params);
	if (ring.fd < 0)
		return -errno;
	ring.sq = ring_part(p->sq_off.array + p->sq_entries * sizeof(__u32), IORING_OFF_SQ_RING);
	ring.cq = ring_part(p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
	ring.sqes = ring_part(p->sq_entries * sizeof(*ring.sqes), IORING_OFF_SQES);
	return ring.sq == MAP_FAILED || ring.cq == MAP_FAILED || ring.sqes == MAP_FAILED ? -ENOMEM : 0;
}

/* Of the ring's features one says that its workers are threads of the process. */
long run_ring_features(const struct op *op)
{
	int error = ring_open();

	(void)op;
	return error ? error : (long)ring.params.features;
}

static long ring_submit(void)
{
	const struct io_uring_params *p = &ring.params;
	__u32 *tail = (__u32 *)(ring.sq + p->sq_off.tail);
	__u32 *head = (__u32 *)(ring.cq + p->cq_off.head);
	struct io_uring_cqe *cqes = (struct io_uring_cqe *)(ring.cq + p->cq_off.cqes);
	long res;

	((__u32 *)(ring.sq + p->sq_off.array))[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	while (syscall(SYS_io_uring_enter, ring.fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		if (errno != EINTR)
			return -errno;
	res = cqes[*head & (p->cq_entries - 1)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return res;
}

/* The words of a ring's call are those of the system call that it stands for. */
static void ring_fill(const struct op *op, struct io_uring_sqe *sqe)
{
	const struct arg *arg = op->arg;

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (__u8)op->call->nr;
	if (sqe->opcode == RING_SETXATTR) { /* path, name, value */
		__u64 path = (__u64)arg[0].text;

		sqe->addr = (__u64)arg[1].text;
		sqe->addr2 = (__u64)arg[2].text;
		sqe->len = (__u32)arg[2].len;
		memcpy((char *)sqe + RING_ADDR3, &path, sizeof(path));
		return;
	}
	if (sqe->opcode == IORING_OP_SYMLINKAT) { /* text, directory, name */
		sqe->addr = (__u64)arg[0].text;
		sqe->fd = (int)value_of(&arg[1]);
		sqe->addr2 = (__u64)arg[2].text;
		return;
	}
	sqe->fd = (int)value_of(&arg[0]);
	sqe->addr = (__u64)arg[1].text;
	if (sqe->opcode == IORING_OP_RENAMEAT || sqe->opcode == IORING_OP_LINKAT) {
		sqe->len = (__u32)value_of(&arg[2]);
		sqe->addr2 = (__u64)arg[3].text;
	} else if (sqe->opcode == IORING_OP_OPENAT) {
		sqe->open_flags = (__u32)value_of(&arg[2]);
		sqe->len = op->args > 3 ? (__u32)value_of(&arg[3]) : 0;
	} else if (sqe->opcode == IORING_OP_OPENAT2) {
		static struct open_how how;

		how.flags = (__u64)value_of(&arg[2]);
		how.mode = (__u64)value_of(&arg[3]);
		sqe->addr2 = (__u64)&how;
		sqe->len = sizeof(how);
	} else if (sqe->opcode == IORING_OP_MKDIRAT) {
		sqe->len = (__u32)value_of(&arg[2]);
	} else if (op->args > 2) {
		sqe->unlink_flags = (__u32)value_of(&arg[2]);
	}
}

long run_ring(const struct op *op)
{
	int error = ring_open();

	if (error)
		return error;
	ring_fill(op, ring.sqes);
	return ring_submit();
}

/* From one file into another by way of a pipe, which is as much as splice can. */
long run_splice(const struct op *op)
{
	size_t length = (size_t)value_of(&op->arg[2]);
	int ends[2];
	long ret;

	if (pipe(ends))
		return -errno;
	ret = splice((int)value_of(&op->arg[0]), NULL, ends[1], NULL, length, 0);
	if (ret > 0)
		ret = splice(ends[0], NULL, (int)value_of(&op->arg[1]), NULL, (size_t)ret, 0);
	if (ret < 0)
		ret = -errno;
	close(ends[0]);
	close(ends[1]);
	return ret;
}

/* Opens by its handle what the path names, on the file system of the working directory. */
long run_open_handle(const struct op *op)
{
	struct file_handle *handle = calloc(1, sizeof(*handle) + MAX_HANDLE_SZ);
	int mount;
	long ret;

	if (!handle)
		return -ENOMEM;
	handle->handle_bytes = MAX_HANDLE_SZ;
	ret = name_to_handle_at(AT_FDCWD, op->arg[0].text, handle, &mount, 0);
	if (!ret)
		ret = open_by_handle_at(AT_FDCWD, handle, (int)value_of(&op->arg[1]));
	if (ret < 0)
		ret = -errno;
	free(handle);
	return ret;
}
