"""Roles of keys: whatever a key was once, it never becomes something else."""

from dataclasses import replace

import pytest

from key_registry.dsse import Envelope
from key_registry.errors import RecordError
from key_registry.record import RECORD_TYPE, Genesis, Lead
from key_registry.replay import Registry
from key_registry.rules import Role
from tests.key_registry.lived_registry import W1, LivedRegistry
from tests.key_registry.software_registry import SoftwareCosigner, SoftwareKey, SoftwareRegistry, envelope, policy_of


def cosigner_with(key: SoftwareKey) -> SoftwareCosigner:
    cosigner = SoftwareCosigner("c")
    cosigner.key = key
    cosigner.cosigner = type(cosigner.cosigner)("c", "c.example", key.public)
    return cosigner


class History(LivedRegistry):
    """As LivedRegistry, with keys that had every role and have it no more."""

    def __init__(self) -> None:
        super().__init__()
        self.left_lead = self.leads[0]
        self.lead = self.leads[1]
        self.left_registry_log, self.left_statement_log = self.registry_log.key, self.statements.key
        self.left_cosigner, self.cosigner = SoftwareKey("cosigner x"), SoftwareKey("cosigner y")
        self.change_policy(policy_of(SoftwareCosigner("x")))
        self.change_policy(
            policy_of(SoftwareCosigner("y")),
            registry_key=SoftwareKey("second registry log"),
            statement_key=SoftwareKey("second statement log"),
        )
        self.registry_log_key, self.statement_log_key = self.registry_log.key, self.statements.key
        self.change_leads([*self.leads[1:], SoftwareKey("a fourth lead")], 2)
        self.compromise(self.new, 0)
        self.destroy(self.old)

    def introduce(self, role: Role, key: SoftwareKey) -> Envelope:
        """Return a record that gives a key a role, signed by everybody it needs."""
        if role is Role.LEAD:
            return self.record(self.leads_record([key], 1), *{it.key_id: it for it in (*self.quorum, key)}.values())
        if role is Role.WITNESS:
            body = self.key_add(key, W1, cka_id=b"a new place")
            return self.record(body, *{it.key_id: it for it in (*self.quorum, key)}.values())
        if role is Role.COSIGNER:
            return self.record(self.policy_record(policy_of(cosigner_with(key))), *self.quorum)
        other = SoftwareKey("the other log's new key")
        if role is Role.REGISTRY_LOG:
            return self.record(self.policy_record(registry_key=key, statement_key=other), *self.quorum)
        return self.record(self.policy_record(registry_key=other, statement_key=key), *self.quorum)


ROLES: dict[str, Role] = {
    "left_lead": Role.LEAD,
    "lead": Role.LEAD,
    "left_registry_log": Role.REGISTRY_LOG,
    "registry_log_key": Role.REGISTRY_LOG,
    "left_statement_log": Role.STATEMENT_LOG,
    "statement_log_key": Role.STATEMENT_LOG,
    "left_cosigner": Role.COSIGNER,
    "cosigner": Role.COSIGNER,
    "old": Role.WITNESS,
    "a": Role.WITNESS,
    "new": Role.WITNESS,
}

ONLY_ONCE = {"left_registry_log", "left_statement_log", "old", "a", "new"}
"""Log keys that were replaced, and witness keys."""


@pytest.fixture(scope="module")
def world() -> History:
    return History()


@pytest.mark.attacks
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", ROLES)
def test_a_key_has_one_role_for_ever(world: History, name: str, role: Role) -> None:
    """Present and past, in every pair; back into its own role only a lead, a cosigner, and a log key in use may go."""
    key = getattr(world, name)
    assert world.registry.role_of(key.key_id) is ROLES[name]
    record = world.introduce(role, key)
    if role is ROLES[name] and name not in ONLY_ONCE:
        assert world.registry.append(record).role_of(key.key_id) is role
    else:
        with pytest.raises(RecordError, match=r"never had another|new to the registry|replaced before"):
            world.registry.append(record)


@pytest.mark.parametrize("role", Role)
def test_a_key_nobody_knew_can_have_any_role(world: History, role: Role) -> None:
    """And has it from the record on that names it, not before."""
    fresh = SoftwareKey(f"fresh {role}")
    assert world.registry.role_of(fresh.key_id) is None
    after = world.registry.append(world.introduce(role, fresh))
    assert after.role_of(fresh.key_id) is role
    assert after.at_size(world.registry.size).role_of(fresh.key_id) is None
    assert world.registry.role_of(fresh.key_id) is None


def test_roles_are_told_apart_at_every_size(world: History) -> None:
    """A registry that is a prefix knows only the roles its own records gave."""
    key_ids = [getattr(world, name).key_id for name in ROLES]
    for size in range(1, world.registry.size + 1):
        fresh = Registry.replay(world.registry.envelopes[:size], registry_id=world.registry_id)
        view = world.registry.at_size(size)
        assert [view.role_of(key_id) for key_id in key_ids] == [fresh.role_of(key_id) for key_id in key_ids]


@pytest.mark.attacks
@pytest.mark.parametrize("first", ["lead", "registry", "statements"])
def test_a_genesis_gives_every_key_one_role(first: str) -> None:
    """A lead's key as a log's or a cosigner's, a log's as a cosigner's: no registry starts so."""
    world = SoftwareRegistry()
    genesis = world.registry.genesis
    shared = {"lead": world.leads[0], "registry": world.registry_log.key, "statements": world.statements.key}[first]

    def start(**fields: object) -> None:
        body = Genesis(**{**genesis.__dict__, **fields})  # type: ignore[arg-type]
        Registry.replay([envelope(RECORD_TYPE, body.encode(), *world.leads)], registry_id=None)

    start()
    start(policy=policy_of(SoftwareCosigner("x")))
    with pytest.raises(RecordError, match="never had another"):
        start(policy=policy_of(cosigner_with(shared)))
    if first != "lead":
        leads = tuple(sorted((*genesis.leads, Lead("log", shared.public)), key=lambda lead: lead.public_key.key_id))
        with pytest.raises(RecordError, match="never had another"):
            start(leads=leads)


@pytest.mark.attacks
def test_one_policy_record_cannot_give_two_roles(world: History) -> None:
    """A new key as the log's and the cosigner's in one record: both are new, and still they are one key."""
    fresh = SoftwareKey("fresh")
    policy = policy_of(cosigner_with(fresh))
    for record in (world.policy_record(policy, registry_key=fresh), world.policy_record(policy, statement_key=fresh)):
        with pytest.raises(RecordError, match="never had another"):
            world.registry.append(world.record(record, *world.quorum))


@pytest.mark.attacks
def test_places_of_log_keys_are_taken_for_ever(world: History) -> None:
    """A CKA_ID names one key on its token: no witness key takes a log key's, past or present, nor the reverse."""
    places: dict[str, tuple[str, bytes]] = {
        "past log key": ("logs 01", world.left_statement_log.cka_id),
        "present log key": ("logs 01", world.statement_log_key.cka_id),
        "witness key": ("token 01", world.a.cka_id),
    }
    for serial, cka_id in places.values():
        assert world.registry.has_token_place(serial, cka_id)
        body = world.key_add(world.stranger, W1, token_serial=serial, cka_id=cka_id)
        with pytest.raises(RecordError, match="CKA_ID"):
            world.registry.append(world.record(body, world.stranger, *world.quorum))
        logs = world.logs(statements=world.stranger)
        taken = replace(logs, statements=replace(logs.statements, token_serial=serial, cka_id=cka_id))
        record = world.policy_record(statement_key=world.stranger, logs=taken)
        with pytest.raises(RecordError, match="CKA_ID"):
            world.registry.append(world.record(record, *world.quorum))
    assert not world.registry.has_token_place("logs 01", world.stranger.cka_id)
    first = world.registry.at_size(1)
    assert first.has_token_place("logs 01", world.left_registry_log.cka_id)
    assert not first.has_token_place("logs 01", world.registry_log_key.cka_id)
