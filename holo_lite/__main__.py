"""`python -m holo_lite`, and what the command `holo-lite` starts."""

from cli import main

if __name__ == "__main__":
    main()
