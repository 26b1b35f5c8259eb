"""Studies: variants of a task trained, ranked and compared by one command."""
