"""One shot again, the story continued, pictures in: what is given of a clip, and where it comes from."""
