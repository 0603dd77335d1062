"""What drives runs: many storyboards, drafts, previews on the way."""
