"""The conformance kit: proves that a licensed program, or a field server, keeps the rules of the protocol.

Vectors are bytes and the decision that must follow (docs/protocol/conformance.md). Two drivers: ``client`` runs a program of any
language over them; ``fieldserver`` plays an activation server against a field server that runs, and reports rule by rule.
"""
