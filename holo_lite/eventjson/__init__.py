"""Events as JSON: one record an event, with a version, for other programs."""
