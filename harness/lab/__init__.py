"""The real machines: joins kernels, images, guest and vm."""
