"""Tests of captures, with the frames that they share."""
