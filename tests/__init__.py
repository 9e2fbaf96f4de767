"""Tests: fast ones need no root and no machine; those marked `guest` boot real kernels."""
