"""The oracle: programs and rules drawn at random, judged by what the kernel and docs/rules.md say."""
