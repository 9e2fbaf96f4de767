"""Works inside a guest: files, commands and the self-test channel. The only package that imports paramiko."""
