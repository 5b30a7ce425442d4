"""Evidence: one attestation and its place in the statement log, as a C2SP tlog-proof file."""

from dataclasses import dataclass

from key_registry.dsse import Envelope
from key_registry.errors import FormatError
from key_registry.tlog_proof import TlogProof

EVIDENCE_BYTES = 1_048_576

_PROOF_START = b"c2sp.org/tlog-proof@"


@dataclass(frozen=True)
class Evidence:
    """What an auditor holds about one event; nothing in it is verified.

    Args:
        envelope: the signed statement.
        proof: where in the statement log it is; None for an attestation that is not known to be logged.
    """

    envelope: Envelope
    proof: TlogProof | None

    def to_bytes(self) -> bytes:
        """Return the .tlog-proof file, or the envelope's JSON where there is no proof."""
        envelope = self.envelope.to_json()
        if self.proof is None:
            return envelope
        return TlogProof(self.proof.index, self.proof.hashes, self.proof.checkpoint, envelope).to_bytes()

    @classmethod
    def read(cls, data: bytes) -> "Evidence":
        """Read a .tlog-proof file whose extra data is the envelope, or an envelope alone.

        Args:
            data: at most 1 MiB.

        Raises:
            FormatError: neither of the two, or a proof without an envelope.
        """
        if len(data) > EVIDENCE_BYTES:
            raise FormatError(f"evidence: expected at most {EVIDENCE_BYTES} bytes, got more")
        if not data.startswith(_PROOF_START):
            return cls(Envelope.from_json(data), None)
        proof = TlogProof.parse(data)
        if proof.extra is None:
            raise FormatError("evidence: expected the signed statement as the proof's extra data, got none")
        return cls(Envelope.from_json(proof.extra), proof)
