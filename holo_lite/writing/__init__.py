"""From an idea to a storyboard: a language model writes, `preflight` looks, and what it finds goes back."""
