// SPDX-License-Identifier: Apache-2.0
/* Calls on descriptors: file handles, sockets that pass descriptors, splice, fcntl, inode flags. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "fim-gen.h"

/* Copies from one file to another through a pipe, because splice needs one. */
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

/* Opens a file by its handle, on the file system of the descriptor or of the working directory.
 */
long run_open_handle(const struct op *op)
{
	const long *v = call_values(op);
	int on = op->args > 2 ? (int)v[2] : AT_FDCWD;
	struct file_handle *handle = calloc(1, sizeof(*handle) + MAX_HANDLE_SZ);
	int mount;
	long ret;

	if (!handle)
		return -ENOMEM;
	handle->handle_bytes = MAX_HANDLE_SZ;
	ret = name_to_handle_at(AT_FDCWD, (const char *)v[0], handle, &mount, 0);
	if (!ret)
		ret = open_by_handle_at(on, handle, (int)v[1]);
	if (ret < 0)
		ret = -errno;
	free(handle);
	return ret;
}

/* Opens a pipe or a socket pair; the second descriptor goes into the variable after the named one. */
long run_pair(const struct op *op)
{
	int ends[2];
	bool pipe = op->call->nr == SYS_pipe2;

	if ((pipe ? pipe2(ends, O_CLOEXEC) : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends)) < 0)
		return -errno;
	if (op->into != NO_VAR && op->into + 1 < MAX_VARS)
		var_set(op->into + 1, ends[1]);
	return ends[0];
}

union control {
	struct cmsghdr header;
	char room[CMSG_SPACE(sizeof(int))];
};

static struct msghdr message_of(struct iovec *byte, union control *control)
{
	memset(control, 0, sizeof(*control));
	return (struct msghdr){
		.msg_iov = byte,
		.msg_iovlen = 1,
		.msg_control = control->room,
		.msg_controllen = sizeof(control->room),
	};
}

static long send_fd(int socket, int fd)
{
	char byte = 0;
	union control control;
	struct iovec vector = { &byte, 1 };
	struct msghdr message = message_of(&vector, &control);

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sendmsg(socket, &message, 0) < 0 ? -errno : 0;
}

static long recv_fd(int socket)
{
	char byte;
	union control control;
	struct iovec vector = { &byte, 1 };
	struct msghdr message = message_of(&vector, &control);
	int fd;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) < 0)
		return -errno;
	if (message.msg_controllen < CMSG_LEN(sizeof(fd)))
		return -ENOMSG;
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

long run_send_fd(const struct op *op)
{
	return send_fd((int)value_of(&op->arg[0]), (int)value_of(&op->arg[1]));
}

long run_recv_fd(const struct op *op)
{
	return recv_fd((int)value_of(&op->arg[0]));
}

/* Returns another descriptor of the same open file, passed through a socket. */
long run_pass(const struct op *op)
{
	int ends[2];
	long ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	ret = send_fd(ends[0], (int)value_of(&op->arg[0]));
	if (!ret)
		ret = recv_fd(ends[1]);
	close(ends[0]);
	close(ends[1]);
	return ret;
}

/* The call's name implies the command; a key and a value follow the descriptor if it takes them. */
long run_fsconfig(const struct op *op)
{
	const long *v = call_values(op);

	return syscall(SYS_fsconfig, v[0], op->call->nr, v[1], v[2], 0) < 0 ? -errno : 0;
}

/* Like chattr: sets the inode's flags to these, such as FS_IMMUTABLE_FL. */
long run_chattr(const struct op *op)
{
	int flags = (int)value_of(&op->arg[1]);

	return ioctl((int)value_of(&op->arg[0]), FS_IOC_SETFLAGS, &flags) < 0 ? -errno : 0;
}

/* The same with flags in memory that this process has not touched: the kernel is the first to read it. */
long run_chattr_untouched(const struct op *op)
{
	const int access = PROT_READ | PROT_WRITE;
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	int *written = mmap(NULL, size, access, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int *untouched;
	long ret;

	if (written == MAP_FAILED)
		return -errno;
	*written = (int)value_of(&op->arg[1]);
	untouched = mremap(written, 0, size, MREMAP_MAYMOVE); /* of size 0: a second mapping */
	if (untouched == MAP_FAILED) {
		ret = -errno;
	} else {
		ret = ioctl((int)value_of(&op->arg[0]), FS_IOC_SETFLAGS, untouched) < 0 ? -errno : 0;
		munmap(untouched, size);
	}
	munmap(written, size);
	return ret;
}

/* The same by another command, which takes flags such as FS_XFLAG_IMMUTABLE. */
long run_fssetxattr(const struct op *op)
{
	struct fsxattr asked = { .fsx_xflags = (__u32)value_of(&op->arg[1]) };

	return ioctl((int)value_of(&op->arg[0]), FS_IOC_FSSETXATTR, &asked) < 0 ? -errno : 0;
}

/* file_setattr(2), from 6.17: the same by name. */
long run_file_setattr(const struct op *op)
{
	const long *v = call_values(op);
	__u64 asked[3] = { (__u64)v[2] };

	return syscall(469, v[0], v[1], asked, sizeof(asked), 0) < 0 ? -errno : 0;
}

/* Gives a new socket a name. */
long run_bind(const struct op *op)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const long *v = call_values(op);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long ret;

	if (fd < 0)
		return -errno;
	strncpy(address.sun_path, (const char *)v[0], sizeof(address.sun_path) - 1);
	ret = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}
