"""The commands of the root command, one concern a module."""
