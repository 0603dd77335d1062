"""Events as JSON: one record an event, with a version, for whoever is not in this process."""
