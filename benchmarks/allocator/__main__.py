"""`python -m benchmarks.allocator`."""

from benchmarks.allocator.command import main

main()
