"""Ground floor: errors, durable files, hashes, parallel map, progress, seeds.

Imports nothing of ours.
"""
