"""`compare_<study>`: variants of a task trained, ranked and compared."""
