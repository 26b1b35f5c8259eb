"""`train_<task>`: one modular pipeline, instantiated per task by namespace."""
