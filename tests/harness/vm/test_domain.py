"""The domain XML is correct for any values."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from harness.vm import domain
from tests.harness.vm.specs import machine_spec

QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def rendered(workdir: Path, **changes: object) -> ElementTree.Element:
    spec = machine_spec(workdir, **changes)
    return ElementTree.fromstring(domain.render(spec, name="fim-1", port=2222, run_disk=Path("/r/run.tar")))


def test_guest_has_no_way_out(tmp_path: Path) -> None:
    """User networking is restricted, with one port forwarded from the loopback address."""
    arguments = [arg.get("value") or "" for arg in rendered(tmp_path).iter(f"{QEMU}arg")]
    netdev = arguments[arguments.index("-netdev") + 1]
    assert "restrict=on" in netdev
    assert netdev.count("hostfwd=") == 1
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in netdev


def test_disks_are_read_only_and_in_order(tmp_path: Path) -> None:
    """The root comes first, then the disks of the spec, then the run disk."""
    disks = rendered(tmp_path, disks=(Path("/k/modules.erofs"),)).findall("devices/disk")
    assert [disk.findtext("serial") for disk in disks] == ["fim-root", "fim-1", "fim-run"]
    assert all(disk.find("readonly") is not None for disk in disks)


def test_values_are_escaped(tmp_path: Path) -> None:
    """A path or a command line cannot change the XML around it."""
    root = rendered(tmp_path, kernel=Path('/a b/<k>&"x"'), cmdline="a=\"<b>\" c='d'")
    assert root.findtext("os/kernel") == '/a b/<k>&"x"'
    assert (root.findtext("os/cmdline") or "").endswith("a=\"<b>\" c='d'")


def test_every_hang_becomes_a_panic(tmp_path: Path) -> None:
    """The command line turns every trouble into a panic that it can, and a panic does not reboot."""
    words = domain.cmdline(machine_spec(tmp_path, cmdline="lsm=bpf")).split()
    assert {"panic=-1", "oops=panic", "softlockup_panic=1", "sysctl.kernel.panic_on_rcu_stall=1"} <= set(
        words
    )
    assert words[-1] == "lsm=bpf"
    assert not any(word.startswith("root=") for word in words)


def test_user_of_qemu(tmp_path: Path) -> None:
    """A daemon runs QEMU as this user and keeps file owners; the embedded driver needs no setting."""
    xml = domain.render(machine_spec(tmp_path), name="x", port=1, run_disk=Path("/r"), user="+1:+2")
    label = ElementTree.fromstring(xml).find("seclabel")
    assert label is not None
    assert (label.get("relabel"), label.findtext("label")) == ("no", "+1:+2")
    assert rendered(tmp_path).find("seclabel") is None


def test_kvm_and_tcg(tmp_path: Path) -> None:
    """The accelerator decides domain type and processor."""
    assert rendered(tmp_path, kind="kvm").get("type") == "kvm"
    tcg = rendered(tmp_path)
    assert tcg.get("type") == "qemu"
    assert tcg.find("cpu").get("mode") == "maximum"  # type: ignore[union-attr]


def test_arm64(tmp_path: Path) -> None:
    """The other architecture has another machine and another console, and no ACPI: that would need UEFI."""
    root = rendered(tmp_path, arch="arm64")
    assert [feature.tag for feature in root.findall("features/*")] == ["gic"]
    assert [feature.tag for feature in rendered(tmp_path).findall("features/*")] == ["acpi", "apic"]
    assert root.find("os/type").get("machine") == "virt"  # type: ignore[union-attr]
    assert "console=ttyAMA0" in (root.findtext("os/cmdline") or "")


def test_libvirt_does_not_ask_for_every_property_of_the_cpu(tmp_path: Path) -> None:
    """Its 400 questions at each start would take longer than the rest of a restore."""
    gone = [one.get("capability") for one in rendered(tmp_path).iter(f"{QEMU}del")]
    assert gone == ["cpu-unavailable-features"]


def test_a_clock_that_counts_instructions(tmp_path: Path) -> None:
    """Only if the spec asks for it, because it makes emulation slower."""
    arguments = [arg.get("value") for arg in rendered(tmp_path, icount=True).iter(f"{QEMU}arg")]
    assert arguments[arguments.index("-icount") + 1] == "shift=1,sleep=on"
    assert "-icount" not in [arg.get("value") for arg in rendered(tmp_path).iter(f"{QEMU}arg")]


def test_a_machine_with_a_disk_may_reboot(tmp_path: Path) -> None:
    """Only its state disk is writable; without one, a reboot ends the machine."""
    assert rendered(tmp_path).findtext("on_reboot") == "destroy"
    xml = domain.render(
        machine_spec(tmp_path, state_mib=64),
        name="fim-1",
        port=2222,
        run_disk=Path("/r/run.tar"),
        state_disk=Path("/r/state.ext4"),
    )
    root = ElementTree.fromstring(xml)
    assert root.findtext("on_reboot") == "restart"
    assert "reboot=t" in (root.findtext("os/cmdline") or "").split()
    assert "reboot=t" not in (rendered(tmp_path).findtext("os/cmdline") or "")
    writable = [disk for disk in root.findall("devices/disk") if disk.find("readonly") is None]
    assert [disk.findtext("serial") for disk in writable] == ["fim-state"]
