/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of `harness bench`: repeats one operation and reports what it cost
 * this process, as one line of JSON on stdout.
 *
 *	bench-load read N FILE		open for reading, close
 *	bench-load write N FILE		open for writing, close
 *	bench-load create N FILE	create, close, unlink
 *	bench-load rename N FILE	rename to FILE.other or back
 *	bench-load exec N RATE PROGRAM	start a program and wait for it, RATE times
 *					a second (0: without a pause)
 *	bench-load run PROGRAM [ARG...]	start one program and wait for it
 *	bench-load latency N FILE OUTPUT [NOISE]
 *					open FILE.0, FILE.1, ... for writing, one
 *					at a time, and wait until OUTPUT names it;
 *					meanwhile a child opens NOISE for reading
 *
 * wall_ns is the time from the first operation to the last, and cpu_ns the CPU
 * time of this process in it, in "exec" and "run" that of the programs too.
 * latency_ns has -1 for each name that did not appear within 2 seconds.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS     1000000000LL
#define MICRO_NS      1000LL
#define MICROS	      1000000LL
#define WAIT_NS	      (2 * SECOND_NS)
#define PAUSE_NS      (SECOND_NS / 50) /* between two operations of "latency" */
#define MAX_LATENCIES 10000
#define MAX_NAME      4096
#define PIECE	      65536

extern char **environ;

static long long latencies[MAX_LATENCIES];
static int count_latencies;

static long long now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * SECOND_NS + time.tv_nsec;
}

static long long microseconds(struct timeval time)
{
	return time.tv_sec * MICROS + time.tv_usec;
}

static long long of_children(void)
{
	struct rusage used;

	getrusage(RUSAGE_CHILDREN, &used);
	return (microseconds(used.ru_utime) + microseconds(used.ru_stime)) * MICRO_NS;
}

static void sleep_until(long long when)
{
	struct timespec time = { .tv_sec = when / SECOND_NS, .tv_nsec = when % SECOND_NS };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
}

static void open_close(const char *path, int flags)
{
	int file = open(path, flags | O_CLOEXEC, 0644);

	if (file < 0)
		err(1, "%s", path);
	close(file);
}

static void create(const char *path)
{
	open_close(path, O_CREAT | O_RDWR);
	if (unlink(path) != 0)
		err(1, "unlink %s", path);
}

static void rename_once(const char *path, const char *other, long i)
{
	if (rename(i % 2 ? other : path, i % 2 ? path : other) != 0)
		err(1, "rename %s", path);
}

static void start_and_wait(char **argv)
{
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	if (posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) != 0)
		err(1, "%s", argv[0]);
	posix_spawn_file_actions_destroy(&actions);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		errx(1, "%s ended with status %d", argv[0], status);
}

/* Reads what was appended to a file, and returns whether it has the text. The
 * last bytes are kept, because a line may arrive in two pieces. */
static int appeared(int output, const char *text)
{
	static char piece[PIECE + MAX_NAME];
	static size_t kept;
	ssize_t size;
	int found = 0;

	while ((size = read(output, piece + kept, PIECE)) > 0) {
		size_t length = kept + size;

		found = found || memmem(piece, length, text, strlen(text)) != NULL;
		kept = length < MAX_NAME ? length : MAX_NAME;
		memmove(piece, piece + length - kept, kept);
	}
	return found;
}

/* Returns when the output has the text, or -1 after WAIT_NS. */
static long long wait_for(int output, int changes, const char *text)
{
	long long end = now(CLOCK_MONOTONIC) + WAIT_NS;
	struct pollfd ready = { .fd = changes, .events = POLLIN };
	char events[PIECE];

	for (;;) {
		long long left;

		if (appeared(output, text))
			return now(CLOCK_MONOTONIC);
		left = end - now(CLOCK_MONOTONIC);
		if (left <= 0)
			return -1;
		if (poll(&ready, 1, left / MICROS + 1) > 0 && read(changes, events, sizeof(events)) < 0)
			err(1, "inotify");
	}
}

static pid_t make_noise(const char *path)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	for (;;)
		open_close(path, O_RDONLY);
}

static void latency(long count, const char *path, const char *output, const char *noise)
{
	int file = open(output, O_RDONLY | O_CLOEXEC), changes = inotify_init1(IN_CLOEXEC);
	const char *base = strrchr(path, '/') + 1;
	pid_t child = 0;

	if (file < 0 || inotify_add_watch(changes, output, IN_MODIFY) < 0)
		err(1, "%s", output);
	lseek(file, 0, SEEK_END);
	if (noise)
		child = make_noise(noise);
	for (long i = 0; i < count && i < MAX_LATENCIES; i++) {
		char name[MAX_NAME], text[MAX_NAME];
		long long began, end;

		snprintf(name, sizeof(name), "%s.%ld", path, i);
		snprintf(text, sizeof(text), "%s.%ld", base, i);
		sleep_until(now(CLOCK_MONOTONIC) + PAUSE_NS);
		began = now(CLOCK_MONOTONIC);
		open_close(name, O_WRONLY);
		end = wait_for(file, changes, text);
		latencies[count_latencies++] = end < 0 ? -1 : end - began;
	}
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
}

static void repeat(const char *what, long count, char **words)
{
	long long began = now(CLOCK_MONOTONIC);
	long rate = strcmp(what, "exec") == 0 ? atol(words[0]) : 0;
	char other[MAX_NAME];

	snprintf(other, sizeof(other), "%s.other", words[0]);
	for (long i = 0; i < count; i++) {
		if (strcmp(what, "read") == 0)
			open_close(words[0], O_RDONLY);
		else if (strcmp(what, "write") == 0)
			open_close(words[0], O_WRONLY);
		else if (strcmp(what, "create") == 0)
			create(words[0]);
		else if (strcmp(what, "rename") == 0)
			rename_once(words[0], other, i);
		else if (rate)
			sleep_until(began + (i + 1) * SECOND_NS / rate);
		if (strcmp(what, "exec") == 0)
			start_and_wait(words + 1);
	}
}

static void report(long long wall, long long cpu)
{
	printf("{\"wall_ns\":%lld,\"cpu_ns\":%lld,\"latency_ns\":[", wall, cpu);
	for (int i = 0; i < count_latencies; i++)
		printf("%s%lld", i ? "," : "", latencies[i]);
	printf("]}\n");
}

int main(int argc, char **argv)
{
	long long wall, cpu, children;

	if (argc < 3)
		errx(2, "usage: bench-load OPERATION ...");
	wall = now(CLOCK_MONOTONIC);
	cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	children = of_children();
	if (strcmp(argv[1], "run") == 0)
		start_and_wait(argv + 2);
	else if (argc < 4)
		errx(2, "%s: arguments are missing", argv[1]);
	else if (strcmp(argv[1], "latency") == 0 && argc > 4)
		latency(atol(argv[2]), argv[3], argv[4], argc > 5 ? argv[5] : NULL);
	else
		repeat(argv[1], atol(argv[2]), argv + 3);
	wall = now(CLOCK_MONOTONIC) - wall;
	cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu + of_children() - children;
	report(wall, cpu);
	return 0;
}
