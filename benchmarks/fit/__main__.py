"""`python -m benchmarks.fit`."""

from benchmarks.fit.command import main

main()
