"""What can be wrong with a storyboard that is well formed: found in its words and numbers, before any weight."""
