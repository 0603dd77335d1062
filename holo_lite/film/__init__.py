"""From latents to something to look at: frames, an mp4, a contact sheet."""
