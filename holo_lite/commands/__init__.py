"""The commands, one a module; `options` and `shared` hold what several need, `drafting` the drafts."""
