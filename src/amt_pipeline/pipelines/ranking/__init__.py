"""`rank_<task>`: checkpoints ranked over validation, one chosen; and curves from elsewhere."""
