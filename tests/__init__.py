"""Tests mirror the packages; tests that boot a kernel (marker `guest`) lie in `guest`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
