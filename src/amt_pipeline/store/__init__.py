"""Frames on disk: manifests, the FrameStore and windows gathered from it."""
