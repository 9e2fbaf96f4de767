"""Checks an RPM package and turns it into a tar archive on standard output; run as a program of its own.

The library ends the whole process at some damaged packages, and decompresses a payload into memory. So it
runs in a child process with a limit of its memory, and its caller reads the archive as hostile input.
"""

from __future__ import annotations

import io
import resource
import sys
import tarfile

import rpm_rs

_MAX_MEMORY = 6 << 30  # bytes of address space


def main(path: str, keys: str = "") -> None:
    """Write the regular files of a package; with `keys`, an armoured file, only check signature and digests.

    An exception is its last line on standard error.
    """
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    package = rpm_rs.Package.open(path)
    package.verify_digests()
    if keys:
        package.verify_signature(rpm_rs.Verifier.from_file(keys))
        return
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
        for file in package.files():
            if file.metadata.mode.file_type == rpm_rs.FileType.Regular:
                member = tarfile.TarInfo(file.metadata.path)
                member.size = len(file.content)
                tar.addfile(member, io.BytesIO(file.content))


if __name__ == "__main__":
    main(*sys.argv[1:])
