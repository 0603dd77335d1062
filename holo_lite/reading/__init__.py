"""Reading what anybody may have written: ordinary files, and the JSON and TOML in them, within bounds."""
