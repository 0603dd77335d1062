"""The memory promise without a card: a run's own allocations, given to a model of PyTorch's allocator."""
