"""The inductive proof of the protocol in Z3: ``python -m proof``, or ``make proof``. See docs/assurance/proof.md."""
