"""The oracle: random programs under random rules, judged by the kernel's results and docs/rules.md."""
