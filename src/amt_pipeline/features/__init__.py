"""Waveform to frames: CQT, mel; one FrameGrid value object; input scaling."""
