"""Faults in what the agent has room for and counts, and in how it starts."""

from __future__ import annotations

from tests.campaigns.mutants.model import Mutant

COUNTS = (
    Mutant(
        "removed-values-taken-for-written",
        "agent/kernel/maps.py",
        "del written[approver]",
        "written.get(approver)",
        ("life.overflow",),
    ),
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
        "refusals-without-return-not-counted",
        "bpf/operation.h",
        "\telse if (op->state == FIM_ENTERED && !op->quiet)\n\t\tfim_lose(op->type, unentered);",
        "",
        ("fairness.exhausted",),
        kernel="5.10",
        hookset="kprobe",
    ),
    Mutant(
        "attributes-without-mount-not-counted",
        "bpf/attributes.h",
        "\tif (!op && fim_is_in_scope() && !fim_is_below_another())\n\t\tfim_lose(type, unentered);",
        "\tif (!op)\n\t\treturn;",
        ("loss.began_before",),
    ),
    Mutant(
        "attributes-of-copies-taken-for-lost",
        "bpf/attributes.h",
        " && !fim_is_below_another())",
        ")",
        ("places.copy_up_unfollowed",),
        kernel="7.3",
    ),
    Mutant(
        "ends-without-room-not-counted",
        "bpf/tasks.h",
        "\tif (error && error != -EEXIST)\n\t\tfim_lose(FIM_EXIT, unentered);\n",
        "",
        ("tests/agent/kernel/test_losses.py::test_an_end_without_room_in_the_map",),
    ),
    Mutant(
        "lost-returns-not-made-up-for",
        "bpf/open.h",
        "\treturn fim_op_end(ctx, family, op, 0);",
        "\treturn 0;",
        ("fairness.exhausted",),
        hookset="kprobe",
    ),
    Mutant(
        "records-kept-without-shares",
        "bpf/keep.h",
        "if (account->kept > FIM_ACCOUNT_KEPT)",
        "if (0 && account->kept)",
        ("fairness.kept",),
    ),
    Mutant(
        "full-table-keeps-the-oldest",
        "bpf/maps.h",
        "__uint(type, BPF_MAP_TYPE_LRU_HASH);\n\t__uint(max_entries, 32768);",
        "__uint(type, BPF_MAP_TYPE_HASH);\n\t__uint(max_entries, 32768);",
        ("discarders.eviction",),
    ),
    Mutant(
        "events-kept-for-ever",
        "agent/pipeline.py",
        "self.ledger.judge(event.type, bool(matched))",
        'self.ledger.judge(event.type, bool(matched)), vars(self).setdefault("kept", []).append(event)',
        ("life.memory",),
    ),
)

STARTS = (
    Mutant(
        "runs-counted-by-every-agent",
        "agent/commands/run.py",
        "    loaded = loader.load(",
        "    __import__('agent.kernel.libbpf').kernel.libbpf.RunCounting()\n    loaded = loader.load(",
        ("life.bounded",),
    ),
    Mutant(
        "lossy-programs-chosen",
        "agent/kernel/choose.py",
        '"absent")) != FIRES:',
        '"absent")) not in (FIRES, "lossy"):',
        ("fairness.returns",),
        kernel="6.12-rt",
        tags=("nightly",),
    ),
)

_LOCKABLE = "lockdown=integrity"  # life.lockdown raises it to confidentiality

LOCKDOWN = (
    Mutant(
        "lockdown-not-named",
        "agent/kernel/lockdown.py",
        "return level() == CONFIDENTIALITY",
        "return False",
        ("life.lockdown",),
        cmdline=_LOCKABLE,
    ),
    Mutant(
        "capabilities-outlive-lockdown",
        "agent/kernel/capabilities.py",
        'stamp = f"{boot_cache.checksum(path)} {lockdown.level()}".rstrip()',
        "stamp = boot_cache.checksum(path)",
        ("life.lockdown",),
        kernel="7.3",
        cmdline=_LOCKABLE,
    ),
    Mutant(
        "memory-read-by-refused-helpers",
        "agent/kernel/loader.py",
        "if self._states.get(capabilities.READ, FIRES) == FIRES:",
        "if self._states:",
        ("life.lockdown",),
        kernel="7.3",
        cmdline=_LOCKABLE,
    ),
)
