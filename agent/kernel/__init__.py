"""The kernel side: the only room that talks to libbpf."""
