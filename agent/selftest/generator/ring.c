// SPDX-License-Identifier: Apache-2.0
/* Calls by io_uring, one at a time. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fim-gen.h"

#define RING_ADDR3 48 /* of struct io_uring_sqe, from 5.19: where older headers have padding */

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
	static struct open_how how;
	const long *v = call_values(op);
	__u64 path = (__u64)v[0];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (__u8)op->call->nr;
	sqe->fd = (int)v[0];
	sqe->addr = (__u64)v[1];
	switch (sqe->opcode) {
	case RING_SETXATTR: /* path, name, value */
		sqe->fd = 0;
		sqe->addr2 = (__u64)v[2];
		sqe->len = (__u32)op->arg[2].len;
		memcpy((char *)sqe + RING_ADDR3, &path, sizeof(path));
		break;
	case IORING_OP_SYMLINKAT: /* text, directory, name */
		sqe->addr = (__u64)v[0];
		sqe->fd = (int)v[1];
		sqe->addr2 = (__u64)v[2];
		break;
	case IORING_OP_RENAMEAT:
	case IORING_OP_LINKAT:
		sqe->len = (__u32)v[2];
		sqe->addr2 = (__u64)v[3];
		break;
	case IORING_OP_OPENAT:
		sqe->open_flags = (__u32)v[2];
		sqe->len = (__u32)v[3];
		break;
	case IORING_OP_OPENAT2:
		how = (struct open_how){ .flags = (__u64)v[2], .mode = (__u64)v[3] };
		sqe->addr2 = (__u64)&how;
		sqe->len = sizeof(how);
		break;
	case IORING_OP_MKDIRAT:
		sqe->len = (__u32)v[2];
		break;
	default:
		sqe->unlink_flags = (__u32)v[2];
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
