"""Faults in what the agent reports of mounts, and of directories above watched files that move."""

from __future__ import annotations

from tests.campaigns.mutants.model import Mutant

MOUNTS = (
    Mutant(
        "types-of-moved-mounts-dropped",
        "bpf/mounts.h",
        ".name = BPF_CORE_READ(mount, mnt.mnt_sb, s_type, name),",
        ".name = NULL,",
        ("doors.mount_api", "doors.mount_compat"),
    ),
    Mutant(
        "remounts-by-descriptor-not-followed",
        "bpf/mounts.h",
        "if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_RECONFIGURE, FIM_MOUNT))",
        "if (family)",
        ("doors.mount_api",),
    ),
    Mutant(
        "moves-by-32-bit-callers-not-seen",
        "bpf/mounts.h",
        "(op->point != FIM_AT_MOVE_MOUNT && op->point != FIM_AT_MOVE_MOUNT32)",
        "op->point != FIM_AT_MOVE_MOUNT",
        ("doors.mount_compat",),
    ),
    Mutant(
        "new-roots-not-seen",
        "bpf/mounts.h",
        "(op->point != FIM_AT_PIVOT_ROOT && op->point != FIM_AT_PIVOT_ROOT32)",
        "op->type",
        ("doors.pivot_root",),
    ),
    Mutant(
        "attributes-of-opened-trees-not-seen",
        "bpf/mounts.h",
        "return attributes && !(flags & 3);",
        "return 0;",
        ("doors.mount_api",),
        kernel="7.3",
    ),
    Mutant(
        "refusals-by-read-only-mounts-not-seen",
        "bpf/read_only.h",
        "change->type = fim_change_type(change->call);",
        "change->type = FIM_TYPES;",
        ("places.read_only_descriptor", "places.read_only_compat"),
    ),
    Mutant(
        "ids-of-16-bits-not-told-apart",
        "bpf/read_only.h",
        "if (change->call == FIM_FCHOWN16) {",
        "if (0) {",
        ("places.read_only_compat",),
    ),
    Mutant(
        "refusals-of-one-function-for-all-not-seen",
        "bpf/read_only.h",
        "else if (op->nested || op->state != FIM_ENTERED || op->point == FIM_AT_SYSCALL ||",
        "else if (op->point ||",
        ("places.read_only_descriptor",),
        kernel="7.3",
    ),
    Mutant(
        "stale-objects-reported",
        "bpf/operation.h",
        "if (op->interrupted || frame >= op->frame)",
        "if (op->frame)",
        ("stale.open", "stale.unlink", "stale.chmod"),
    ),
    Mutant(
        "files-created-by-the-last-lookup-not-seen",
        "bpf/open.h",
        "if (!nd || (void *)nd != op->lookup || BPF_CORE_READ(nd, path.mnt) != mnt ||",
        "if (!nd || op->state ||",
        ("stale.create",),
    ),
    Mutant(
        "results-of-overlayfs-reported",
        "bpf/attributes.h",
        "if (op && op->point == point && fim_frame(ctx, family) < op->frame)",
        "if (0)",
        ("places.copy_up_result",),
    ),
    Mutant(
        "slashes-behind-names-not-skipped",
        "bpf/text.h",
        "if (start && !size && slot->text_last)",
        "if (0)",
        ("law.created_with_slash",),
    ),
    Mutant(
        "flags-by-32-bit-callers-not-seen",
        "bpf/chattr.h",
        "return fim_ioctl_enter(ctx, family); /* of a 32-bit caller */",
        "return 0;",
        ("doors.compat_chattr",),
        kernel="5.10",
    ),
    Mutant(
        "renames-of-mounted-names-not-noticed",
        "bpf/discarders.h",
        "#define FIM_MOUNTED 0x18000",
        "#define FIM_MOUNTED 0",
        ("discarders.mounted_file",),
    ),
    Mutant(
        "renames-of-directories-above-not-matched",
        "agent/rules/load.py",
        "ancestors.extend(kind, condition)",
        "condition",
        ("truth.directory_above",),
    ),
)
