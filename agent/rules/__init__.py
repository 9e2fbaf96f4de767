"""The rule language: reads policy files and compiles expressions to predicates. Independent of the kernel."""
