"""Cosigning: what the service asks of cosigners (C2SP tlog-witness), and what it hands out of their answers."""
