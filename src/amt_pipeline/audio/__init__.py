"""Waveforms: read any format soundfile reads, resample, render MIDI with a soundfont."""
