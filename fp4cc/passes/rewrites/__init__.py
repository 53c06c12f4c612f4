"""Typed kernels into typed kernels: several launches, names, scales of rows."""
