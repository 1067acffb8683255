"""Training: groups, one loop for every architecture and loss, sharding, and the Ray Train worker."""
