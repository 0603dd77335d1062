"""The commands, one a module; what several share stands in `options` and `running`, drafts in `drafting`."""
