"""What can be wrong with bytes, proofs, signatures and records; the text never holds the data itself."""


class FormatError(ValueError):
    """The bytes or values are not of the form that the specification demands."""


class UnsupportedAlgorithm(FormatError):
    """The public key is well-formed, but of an algorithm this version cannot judge."""


class ProofError(ValueError):
    """A Merkle proof does not connect the hashes it was given for."""


class SignatureError(ValueError):
    """A signature is missing, doubled, or not by this key over these bytes."""


class RecordError(ValueError):
    """A key registry record does not follow from the records before it."""
