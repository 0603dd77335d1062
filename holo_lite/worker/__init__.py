"""A render in a process of its own: what it is asked, what it answers, and who starts it and stops it."""
