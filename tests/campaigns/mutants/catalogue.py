"""The faults as data: the changed line, and the self-tests that must notice."""

from __future__ import annotations

from tests.campaigns.mutants.model import Mutant
from tests.campaigns.mutants.mounts import MOUNTS

_APPROVERS = (
    Mutant(
        "approvers-forward-nothing",
        "bpf/approvers.h",
        "return mask ? *mask : 0;",
        "return mask ? *mask & 0 : 0;",
        ("truth.open", "truth.unlink", "truth.rename", "approvers.path"),
    ),
    Mutant(
        "approver-map-not-filled",
        "agent/kernel/maps.py",
        "if written.get(approver) != mask:",
        "if written.get(approver) != mask and False:",
        ("truth.open", "approvers.path"),
    ),
    Mutant(
        "approvers-of-old-rules-stay",
        "agent/kernel/maps.py",
        "for approver in written.keys() - approvers.keys():",
        "for approver in set[Approver]():",
        ("approvers.change",),
    ),
    Mutant(
        "basenames-not-looked-at",
        "bpf/approvers.h",
        "if (fim_is_approved_basename(slot))",
        "if (0 && fim_is_approved_basename(slot))",
        ("approvers.basename", "approvers.names"),
    ),
    Mutant(
        "prefixes-not-looked-at",
        "bpf/approvers.h",
        "if (slot->prefixes & slot->bits)",
        "if (0 && (slot->prefixes & slot->bits))",
        ("approvers.prefix", "truth.names"),
    ),
    Mutant(
        "flags-not-looked-at",
        "bpf/approvers.h",
        "(event->flags & flags_any))",
        "(event->flags & flags_any) == 1)",
        ("approvers.flags", "approvers.flags_combined"),
    ),
    Mutant(
        "read-only-not-looked-at",
        "bpf/approvers.h",
        "if ((kinds & FIM_BY_RDONLY) && ",
        "if (0 && ",
        ("approvers.rdonly",),
    ),
    Mutant(
        "users-taken-for-groups",
        "bpf/approvers.h",
        "fim_is_listed(slot, FIM_BY_UID, event->uid)",
        "fim_is_listed(slot, FIM_BY_UID, event->gid)",
        ("approvers.uid",),
    ),
    Mutant(
        "forward-all-forwards-nothing",
        "bpf/judge.h",
        "if (policy->mode == FIM_FORWARD_ALL || ",
        "if (",
        ("approvers.path", "approvers.none"),
    ),
)

_DISCARDERS = (
    Mutant(
        "proofs-not-heeded",
        "agent/pipeline.py",
        "discard.types,",
        "0xFFFFF,",
        ("discarders.mask",),
    ),
    Mutant(
        "discarders-for-every-type",
        "bpf/discarders.h",
        "(found->mask >> (event->type & 31) & 1)",
        "found->mask",
        ("discarders.mask",),
    ),
    Mutant(
        "discarders-of-moved-directories",
        "bpf/discarders.h",
        "found->generation == event->generation",
        "found->generation <= event->generation",
        ("discarders.rename_parent", "discarders.rename_grandparent", "discarders.rename_great_grandparent"),
    ),
    Mutant(
        "discarders-of-renamed-files",
        "bpf/discarders.h",
        "found->epoch == file->epochs[fim_index(level, 4)]",
        "found->epoch <= file->epochs[fim_index(level, 4)]",
        ("discarders.rename_file",),
    ),
    Mutant(
        "discarders-outlive-their-rules",
        "bpf/discarders.h",
        "found->serial == event->serial",
        "found->serial <= event->serial",
        ("discarders.reload",),
    ),
    Mutant(
        "directories-remembered-after-a-move",
        "bpf/directories.h",
        "found->generation == fim_generation_read()",
        "found->generation <= fim_generation_read()",
        ("approvers.moved_directory", "approvers.moved_mount"),
    ),
    Mutant(
        "directories-remembered-after-a-reload",
        "bpf/directories.h",
        "found->serial == serial",
        "found->serial <= serial",
        ("approvers.changed_directory",),
    ),
    Mutant(
        "freed-directories-remembered",
        "bpf/directories.h",
        "found->epoch == fim_epoch_read(identity)",
        "found->epoch <= fim_epoch_read(identity)",
        ("approvers.evicted_directory",),
    ),
    Mutant(
        "inodes-distinguished-by-number",
        "bpf/discarders.h",
        "fim_mix(FIM_HASH_SEED, (__u64)inode)",
        "fim_mix(FIM_HASH_SEED, BPF_CORE_READ(inode, i_ino))",
        ("discarders.subvolumes",),
    ),
    Mutant(
        "freed-inodes-stay-discarded",
        "bpf/invalidation.h",
        "if (fim_is_local(BPF_CORE_READ(inode, i_sb)))",
        "if (0)",
        ("discarders.evicted",),
    ),
    Mutant(
        "renames-below-overlayfs-not-heeded",
        "bpf/invalidation.h",
        "family, 0));\n\tfim_touch_moved(",
        "family, 1));\n\tfim_touch_moved(",
        ("discarders.unannounced",),
    ),
    Mutant(
        "retention-off",
        "agent/pipeline.py",
        "RETENTION_NS = 60_000_000_000",
        "RETENTION_NS = 0",
        ("discarders.parent", "discarders.leaf"),
    ),
)

_LOSS = (
    Mutant(
        "ring-of-4-KiB",
        "bpf/maps.h",
        "__uint(max_entries, 1 << 23); /* bytes; the loader may change it */",
        "__uint(max_entries, 1 << 12);",
        ("loss.stopped",),
    ),
    Mutant(
        "loss-not-counted",
        "bpf/record.h",
        "fim_lose(slot->event.type, ring_full);",
        "error = 0;",
        ("loss.small_ring",),
    ),
    Mutant(
        "events-not-counted",
        "bpf/policy.h",
        "fim_count(type, seen);\n\tif (!cfg)",
        "if (!cfg)",
        ("truth.open", "truth.exit"),
    ),
    Mutant(
        "record-truncated",
        "bpf/record.h",
        "slot->event.size = size;",
        "slot->event.size = size - 1;",
        ("truth.open", "truth.rename"),
    ),
)

_TRUTH = (
    Mutant(
        "second-path-is-the-first",
        "bpf/judge.h",
        "fim_judge_file(index, 1, dentry2, mount2)",
        "fim_judge_file(index, 1, dentry, mount)",
        ("truth.rename", "truth.link", "doors.exchange"),
    ),
    Mutant(
        "second-path-dropped",
        "agent/events/decode.py",
        "return file if file.path else None",
        "return None",
        ("truth.rename", "truth.link"),
    ),
    Mutant(
        "everything-succeeds",
        "bpf/returns.h",
        "slot->event.retval = ret;",
        "slot->event.retval = 0;",
        ("truth.open", "truth.chmod", "truth.mkdir"),
    ),
    Mutant(
        "refusals-not-reported",
        "bpf/refusal.h",
        "1ULL << EEXIST | 1ULL << EXDEV",
        "0ULL << EEXIST | 1ULL << EXDEV",
        ("truth.mkdir", "truth.symlink", "truth.mknod"),
    ),
    Mutant(
        "group-is-the-user",
        "bpf/record.h",
        "event->gid = ids >> 32;",
        "event->gid = ids;",
        ("truth.open",),
    ),
    Mutant(
        "own-parent",
        "bpf/record.h",
        "BPF_CORE_READ(task, real_parent, tgid)",
        "BPF_CORE_READ(task, tgid)",
        ("truth.open",),
    ),
    Mutant(
        "children-out-of-scope",
        "bpf/scope.h",
        "#define FIM_ANCESTORS_CHUNK 4",
        "#define FIM_ANCESTORS_CHUNK 0",
        ("truth.exec", "truth.unlink"),
    ),
    Mutant(
        "arguments-cut",
        "bpf/tasks.h",
        "slot->event.source.length = size;",
        "slot->event.source.length = 1;",
        ("truth.exec", "truth.brief"),
    ),
    Mutant(
        "exit-status-dropped",
        "bpf/tasks.h",
        "slot->event.exit_code = fim_exit_status(task);",
        "slot->event.exit_code = 0;",
        ("truth.exit",),
    ),
    Mutant(
        "threads-reported-as-processes",
        "bpf/tasks.h",
        "if (pid != BPF_CORE_READ(child, pid))",
        "if (!pid)",
        ("truth.fork",),
    ),
    Mutant(
        "closes-of-readers-reported",
        "bpf/tasks.h",
        "if (!(mode & FMODE_WRITE) || ",
        "if (!mode || ",
        ("truth.close",),
    ),
    Mutant(
        "execs-reported-as-opens",
        "bpf/open.h",
        "if (flags & (O_PATH | FMODE_EXEC))",
        "if (flags & O_PATH)",
        ("truth.exec",),
    ),
    Mutant(
        "mode-asked-for-dropped",
        "bpf/names.h",
        "op->mode = (umode_t)fim_arg(ctx, family, 2);",
        "op->mode = 0;",
        ("truth.mkdir",),
    ),
    Mutant(
        "link-text-dropped",
        "bpf/names.h",
        "object.name = (void *)fim_arg(ctx, family, 2);",
        "object.name = NULL;",
        ("truth.symlink",),
    ),
    Mutant(
        "owner-asked-for-dropped",
        "bpf/attributes.h",
        "slot->event.new_gid = fim_arg(ctx, family, 2);",
        "slot->event.new_gid = 0;",
        ("truth.chown",),
    ),
    Mutant(
        "attribute-name-dropped",
        "bpf/attributes.h",
        "object = { .dentry = dentry, .mount = mount, .name = name };",
        "object = { .dentry = dentry, .mount = mount, .name = NULL };",
        ("truth.setxattr", "truth.removexattr"),
    ),
    Mutant(
        "tail-reported-as-complete",
        "bpf/path.h",
        "fim_flag_file(slot, FIM_TRUNCATED);\n\tslot->dentry",
        "fim_flag_file(slot, 0);\n\tslot->dentry",
        ("truth.long_path",),
    ),
)

_PLACES = (
    Mutant(
        "detached-trees-not-marked",
        "bpf/path.h",
        "|| fim_is_anonymous(ns))",
        ")",
        ("places.detached",),
    ),
    Mutant(
        "names-of-memfds-dropped",
        "bpf/path.h",
        "(!slot->depth && fim_first_byte(name) != '/')",
        "0",
        ("places.memfd",),
    ),
    Mutant(
        "refused-objects-not-reached",
        "bpf/open.h",
        "op->reached = dentry;",
        "op->reached = NULL;",
        ("doors.refused_links", "doors.exec_refused"),
    ),
    Mutant(
        "refused-execs-not-followed",
        "bpf/open.h",
        "if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_EXEC_OPEN, FIM_EXEC))",
        "if (family)",
        ("doors.exec_refused",),
    ),
    Mutant(
        "mount-points-skipped",
        "bpf/path.h",
        "slot->dentry = BPF_CORE_READ(mount, mnt_mountpoint);",
        "slot->dentry = BPF_CORE_READ(below, mnt.mnt_root);",
        ("places.tmpfs", "places.bind_mount"),
    ),
    Mutant(
        "layers-swapped",
        "bpf/record.h",
        "fim_is_upper(inode) ? FIM_UPPER : FIM_LOWER",
        "fim_is_upper(inode) ? FIM_LOWER : FIM_UPPER",
        ("places.overlay", "places.copy_up", "places.upper_layer"),
    ),
    Mutant(
        "deletion-not-reported",
        "bpf/record.h",
        "file->flags |= FIM_DELETED;",
        "file->flags |= 0;",
        ("places.deleted", "places.deleted_directory"),
    ),
)

_FAIRNESS = (
    Mutant(
        "slot-held-across-a-sleep",
        "bpf/operation.h",
        "\tfim_op_drop(op);\n\treturn op->keeps",
        "\treturn op->keeps",
        ("fairness.waiting",),
    ),
    Mutant(
        "refusals-passed-unread",
        "bpf/refusal.h",
        "\tif (approved)\n\t\treturn 1;",
        "\tif (approved || 1)\n\t\treturn 1;",
        ("fairness.refusals",),
    ),
    Mutant(
        "deleted-files-passed-unread",
        "bpf/approvers.h",
        "#define FIM_UNSURE (FIM_TRUNCATED | FIM_AS_GIVEN | FIM_DETACHED)",
        "#define FIM_UNSURE (FIM_TRUNCATED | FIM_AS_GIVEN | FIM_DETACHED | FIM_DELETED)",
        ("fairness.sleepers",),
    ),
    Mutant(
        "ring-without-shares",
        "bpf/record.h",
        "if (!fim_ring_admits(size))",
        "if (0 && !fim_ring_admits(size))",
        ("fairness.ring",),
    ),
    Mutant(
        "interrupted-open-reported-twice",
        "bpf/returns.h",
        "\tif (fim_is_interrupted(ret)) {",
        "\tif (0 && fim_is_interrupted(ret)) {",
        ("life.interrupted",),
    ),
    Mutant(
        "interrupted-open-never-restarts",
        "bpf/restart.h",
        "op->ret == -ERESTARTSYS && (BPF",
        "op->ret == -EINTR && (BPF",
        ("life.interrupted",),
    ),
)

_COUNTS = (
    Mutant(
        "records-without-room-not-counted",
        "bpf/operation.h",
        "fim_lose(op->type, no_slot);",
        ";",
        ("fairness.kept",),
    ),
    Mutant(
        "refusals-without-room-not-counted",
        "bpf/refusal.h",
        "fim_lose(op->type, no_slot);",
        ";",
        ("fairness.kept",),
    ),
    Mutant(
        "records-kept-without-shares",
        "bpf/keep.h",
        "if (account->kept + fim_keeping_weight(keeping) > FIM_ACCOUNT_KEPT)",
        "if (0 && account->kept)",
        ("fairness.kept",),
    ),
)

MUTANTS = (*_APPROVERS, *_DISCARDERS, *_LOSS, *_TRUTH, *_PLACES, *_FAIRNESS, *MOUNTS, *_COUNTS)
