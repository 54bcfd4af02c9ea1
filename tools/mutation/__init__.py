"""Mutation as a gate: small errors, generated from the code itself, each of which the product's proof must find.

``operators`` makes them, ``scope`` says where and what is no error by rule, ``applying`` puts one into a process,
``judging`` lets seeds, worlds and walks look for it, and ``python -m mutation`` runs a sample or all of them.
"""
