"""The `flowgression` command: one file per subcommand."""
