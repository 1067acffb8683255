"""Runs, measures, tests of significance, latency and the report."""
