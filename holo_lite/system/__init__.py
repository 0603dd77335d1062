"""The machine below: whole files, locks, the cache folder, units, devices."""
