"""`python -m benchmarks.count`."""

from benchmarks.count.command import main

main()
