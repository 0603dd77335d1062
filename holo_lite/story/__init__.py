"""What a person asks for: shots, captions, frames and cuts. Needs no tensor library."""
