// SPDX-License-Identifier: Apache-2.0
/*
 * Loads execs.bpf.o, executes a known number of programs, and says in TAP whether all of them were counted.
 * The exit status is 0 when they were, 77 where the kernel has no BTF, else 1.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXECS = 13, SKIP = 77 };

static int check(int number, int ok, const char *what)
{
	printf("%sok %d - %s\n", ok ? "" : "not ", number, what);
	return ok;
}

static struct bpf_object *load(void)
{
	struct bpf_object *object = bpf_object__open_file("execs.bpf.o", NULL);
	struct bpf_map *settings;
	int parent = getpid();

	if (!object)
		return NULL;
	settings = bpf_object__find_map_by_name(object, ".rodata");
	if (settings && !bpf_map__set_initial_value(settings, &parent, sizeof(parent)) &&
	    !bpf_object__load(object))
		return object;
	bpf_object__close(object);
	return NULL;
}

static int execute(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static unsigned long long counted(struct bpf_object *object)
{
	int cpus = libbpf_num_possible_cpus();
	unsigned long long *values = calloc(cpus, sizeof(*values)), sum = 0;
	unsigned int zero = 0;

	if (values && !bpf_map_lookup_elem(bpf_object__find_map_fd_by_name(object, "seen"), &zero, values))
		for (int cpu = 0; cpu < cpus; cpu++)
			sum += values[cpu];
	free(values);
	return sum;
}

int main(void)
{
	struct bpf_object *object;
	struct bpf_link *link;
	unsigned long long count;
	int done = 0;

	if (access("/sys/kernel/btf/vmlinux", R_OK)) {
		puts("this kernel has no BTF");
		return SKIP;
	}
	puts("1..3");
	object = load();
	if (!check(1, !!object, "the object loads"))
		return 1;
	link = bpf_program__attach(bpf_object__find_program_by_name(object, "count_exec"));
	if (!check(2, !!link, "the program attaches"))
		return 1;
	while (done < EXECS && execute())
		done++;
	count = counted(object);
	printf("# executed %d, counted %llu\n", done, count);
	done = check(3, done == EXECS && count == EXECS, "every program that was executed is counted");
	bpf_link__destroy(link);
	bpf_object__close(object);
	return !done;
}
