"""What is said before a run: what a storyboard may do wrong, and what a clip will take."""
