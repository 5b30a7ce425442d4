"""Keys that are not as they must be are refused, by name, and nothing is signed with them."""

from collections.abc import Callable

import pytest

from hsm import Algorithm, Fault, HsmError, KeyRef, PoolStatus, SignerPool, TokenRef
from tests.fix_softhsm import FaultyToken
from tests.hsm.conftest import OpenPool
from tests.hsm.signing import check, eventually, new_key

pytestmark = pytest.mark.faults

GENERATE = """
from hsm.encoding import EC_PARAMS, spki
from hsm.key import Algorithm
parameters = session.create_domain_parameters(
    KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: EC_PARAMS[Algorithm.ED25519]}, local=True
)
as_the_service = {
    Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.MODIFIABLE: False,
    Attribute.COPYABLE: False, Attribute.DERIVE: False, Attribute.SIGN_RECOVER: False,
}
for argument in sys.argv[4:]:
    cka_id, name, value = argument.split()
    public, private = parameters.generate_keypair(
        id=bytes.fromhex(cka_id), store=True, mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
        private_template=as_the_service | {getattr(Attribute, name): value == "True"},
    )
    print(spki(Algorithm.ED25519, public[Attribute.EC_POINT]).hex())
"""

DESTROY = """
for found in list(session.get_objects({Attribute.ID: bytes.fromhex(sys.argv[4])})):
    found.destroy()
"""

ID = bytes(range(16))
AS_OURS = "SIGN True"
ATTRIBUTE_TYPE_INVALID = 0x12


async def refused(pool: SignerPool, key: KeyRef) -> HsmError:
    """Load a key that must be refused; returns the error, which names the CKA_ID."""
    with pytest.raises(HsmError) as caught:
        await pool.load(key)
    assert caught.value.fault is Fault.CONFIGURATION
    assert key.cka_id.hex() in str(caught.value)
    (outcome,) = await pool.sign([(key.cka_id, b"m")], timeout=10)
    assert isinstance(outcome, HsmError)
    assert outcome.fault is Fault.CONFIGURATION
    return caught.value


def made_elsewhere(on_token: Callable[..., str], *attributes: str) -> list[KeyRef]:
    """Generate keys, ids counted up from ID, that differ from ours in an attribute each, "NAME value"."""
    ids = [bytes([ID[0] + count]) + ID[1:] for count in range(len(attributes))]
    arguments = (f"{cka_id.hex()} {attribute}" for cka_id, attribute in zip(ids, attributes, strict=True))
    public_keys = on_token(GENERATE, *arguments).split()
    return [
        KeyRef(cka_id, Algorithm.ED25519, bytes.fromhex(public_key))
        for cka_id, public_key in zip(ids, public_keys, strict=True)
    ]


async def test_case_20_other_attributes(token: TokenRef, open_pool: OpenPool, on_token: Callable[..., str]) -> None:
    """A key that could have left the token, or can do more or less than sign, is refused, and it says why."""
    expected = {
        "EXTRACTABLE True": "extractable false, got true",
        "SENSITIVE False": "sensitive true, got false",
        "SIGN False": "sign true, got false",
        "DERIVE True": "derive false, got true",
        "DECRYPT True": "decrypt false, got true",
        "UNWRAP True": "unwrap false, got true",
        "MODIFIABLE True": "modifiable false, got true",
        "COPYABLE True": "copyable false, got true",
    }
    pool = await open_pool(token)
    for key, named in zip(made_elsewhere(on_token, *expected), expected.values(), strict=True):
        assert named in str(await refused(pool, key))


async def test_case_20_the_same_key_with_the_right_attributes_is_taken(
    token: TokenRef, open_pool: OpenPool, on_token: Callable[..., str]
) -> None:
    """So that the refusals above are for the attribute and not for where the key was made."""
    (key,) = made_elsewhere(on_token, AS_OURS)
    await (await open_pool(token)).load(key)


async def test_case_20_key_missing(token: TokenRef, open_pool: OpenPool) -> None:
    """A CKA_ID that no private key has."""
    pool = await open_pool(token)
    key = await new_key(pool)
    error = await refused(pool, KeyRef(ID, key.algorithm, key.public_key))
    assert "expected one private key, got none" in str(error)


@pytest.mark.parametrize(("kept", "destroyed"), [("private", "public"), ("public", "private")])
async def test_case_20_key_duplicated(
    kept: str, destroyed: str, token: TokenRef, open_pool: OpenPool, on_token: Callable[..., str]
) -> None:
    """A second object with the same CKA_ID, of either half: nobody can say which one would sign."""
    (first,) = made_elsewhere(on_token, AS_OURS)
    on_token(f"{GENERATE}\n{destroyed}.destroy()", f"{ID.hex()} {AS_OURS}")
    error = await refused(await open_pool(token), first)
    assert f"expected one {kept} key, got 2" in str(error)


async def test_case_20_other_public_key(token: TokenRef, open_pool: OpenPool) -> None:
    """The CKA_ID is there, but another key has it."""
    pool = await open_pool(token)
    first, second = await new_key(pool), await new_key(pool)
    with pytest.raises(HsmError, match="expected the public key with SHA-256") as caught:
        await pool.load(KeyRef(first.cka_id, first.algorithm, second.public_key))
    assert caught.value.fault is Fault.CONFIGURATION
    assert first.cka_id.hex() in str(caught.value)


async def test_case_20_other_algorithm(token: TokenRef, open_pool: OpenPool) -> None:
    """The key in the token is of another kind than the registry says."""
    pool = await open_pool(token)
    key = await new_key(pool)
    with pytest.raises(HsmError, match="CKA_EC_POINT of an ecdsa-p256 key"):
        await pool.load(KeyRef(key.cka_id, Algorithm.ECDSA_P256, key.public_key))


async def test_case_20_destroyed_while_in_use(
    token: TokenRef, open_pool: OpenPool, on_token: Callable[..., str]
) -> None:
    """A key that disappears is refused and named, the others go on, and the state says so."""
    pool = await open_pool(token, 2)
    gone, stays = await new_key(pool), await new_key(pool)
    on_token(DESTROY, gone.cka_id.hex())
    (outcome,) = await pool.sign([(gone.cka_id, b"m")], timeout=10)
    assert isinstance(outcome, HsmError)
    assert outcome.fault is Fault.CONFIGURATION
    await eventually(lambda: gone.cka_id.hex() in pool.state().refused_keys)
    assert pool.state().status is PoolStatus.DEGRADED
    assert gone.cka_id.hex() in pool.state().reason
    (signature,) = await pool.sign([(stays.cka_id, b"m")], timeout=10)
    check(stays, b"m", signature)


async def test_an_odd_public_key_to_compare_with_is_refused(token: TokenRef, open_pool: OpenPool) -> None:
    """Bytes that are no key at all."""
    pool = await open_pool(token)
    key = await new_key(pool)
    with pytest.raises(HsmError, match=key.cka_id.hex()):
        await pool.load(KeyRef(key.cka_id, key.algorithm, b"\x30\x00"))


async def test_a_key_that_the_token_makes_otherwise_is_destroyed(
    faulty_token: FaultyToken, open_pool: OpenPool, on_token: Callable[..., str]
) -> None:
    """Attributes that cannot be read back are not the ones asked for: an error, and no key stays behind."""
    pool = await open_pool(faulty_token.ref)
    faulty_token.order("C_GetAttributeValue", "return", ATTRIBUTE_TYPE_INVALID)
    with pytest.raises(HsmError, match="always_sensitive true, got unavailable") as caught:
        await pool.generate(Algorithm.ED25519, "never")
    assert caught.value.fault is Fault.CONFIGURATION
    assert on_token("print(len(list(session.get_objects())))") == "0\n"
    faulty_token.mend("C_GetAttributeValue")
    assert (await pool.generate(Algorithm.ED25519, "ever")).attributes["always_sensitive"] == "true"
