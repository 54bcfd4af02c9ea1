"""The field server: what runs on the device, and answers whether a feature may run.

Light on purpose: importing this package, or ``checks`` from it, loads no web framework and no command line.
"""
