"""The rule fuzzer: expressions, filters and policies drawn from a seed, against naive answers."""
