"""Checkpoint ranking: validation per unit, curves, paired bootstrap, choice by rule."""
