"""Provides the real machines of a run: joins kernels, images, guest and vm."""
