"""Executors, which take the runs of a study or search and have workers execute them.

The workers are local processes, all processes of ``torchrun`` together, or a Ray cluster's.
"""
