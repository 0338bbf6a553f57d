"""Every await on a backend."""
