"""The only room that talks to libvirt: a machine's life from definition to death."""
