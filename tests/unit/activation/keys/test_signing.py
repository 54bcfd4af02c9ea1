"""Keys in files, and the data directory that they stand in."""

import stat

import pytest

from support.activation import START, seeded
from tallystick.activation.core.ports import Enrolment, Policy
from tallystick.activation.files import save_file
from tallystick.activation.keys import lifecycle, signing
from tallystick.activation.server import instance
from tallystick.activation.server.instance import initialise, load_settings, open_activation
from tallystick.activation.settings import Settings
from tallystick.errors import Error
from tallystick.protocol import envelope, messages


def create(data, name="one", issuer="Example"):
    data.mkdir(exist_ok=True)
    return lifecycle.create_keys(
        data, issuer=issuer, root_seed=seeded(f"{name} r"), signing_seed=seeded(f"{name} s"), now=START
    )


def code_of(work, *arguments, **options):
    with pytest.raises(Error) as refused:
        work(*arguments, **options)
    return refused.value.code


def make(data, **options):
    options = {"issuer": "Example", "policy": Policy(), "database": None} | options
    initialise(data, **options).close()
    return data


class TestKeys:
    def test_what_is_signed_verifies_with_the_keyset(self, tmp_path):
        signer = create(tmp_path)
        assert (signer.keyset.version, signer.keyset.issuer) == (1, "Example")
        compact = signer.sign(messages.CREDIT, b"{}")
        assert signer.keyset.verify(envelope.open_envelope(compact.encode())).payload == b"{}"
        again = signing.load_signer(tmp_path)
        assert again.keyset == signer.keyset
        assert again.sign(messages.CREDIT, b"{}") == compact

    def test_only_the_owner_can_read_the_keys(self, tmp_path):
        create(tmp_path)
        directory = tmp_path / "keys"
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
        assert sorted(path.name for path in directory.iterdir()) == ["root.pem", "signing.pem"]

    def test_signing_goes_on_when_the_root_key_was_moved_away(self, tmp_path):
        create(tmp_path)
        (tmp_path / "keys" / "root.pem").rename(tmp_path / "safe.pem")
        assert signing.load_signer(tmp_path).sign(messages.CREDIT, b"{}")

    @pytest.mark.parametrize(
        ("file", "content"),
        [
            ("keys/signing.pem", None),
            ("keys/signing.pem", b""),
            ("keys/signing.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            ("keyset.tally", None),
            ("keyset.tally", b""),
            ("keyset.tally", b"a.b.c\n"),
            ("keyset.tally", b"\xff" * 100),
        ],
    )
    def test_what_is_missing_or_damaged_is_named(self, tmp_path, file, content):
        create(tmp_path)
        path = tmp_path / file
        path.unlink() if content is None else path.write_bytes(content)
        assert code_of(signing.load_signer, tmp_path) == "keys-unusable"

    def test_a_key_that_the_keyset_does_not_name_is_refused(self, tmp_path):
        create(tmp_path / "one")
        create(tmp_path / "two", "two")
        save_file(tmp_path / "one/keys/signing.pem", [(tmp_path / "two/keys/signing.pem").read_bytes()])
        assert code_of(signing.load_signer, tmp_path / "one") == "keys-unusable"


class TestDirectory:
    def test_init_makes_what_open_finds(self, tmp_path):
        policy = Policy(enrolment=Enrolment.LISTED, waiting_days=7, lost_per_year=0)
        data = make(tmp_path / "a" / "b", issuer='Quote " and ü', policy=policy)
        activation = open_activation(data)
        assert activation.settings == Settings(issuer='Quote " and ü', policy=policy)
        activation.close()
        assert stat.S_IMODE(data.stat().st_mode) == 0o700

    def test_without_a_name_it_gets_one_of_its_own(self, tmp_path):
        names = {load_settings(make(tmp_path / name, issuer=None)).issuer for name in "ab"}
        assert len(names) == 2

    def test_a_second_init_is_refused_and_changes_nothing(self, tmp_path):
        data = make(tmp_path / "a")
        before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file() and "sqlite" not in path.name}
        assert code_of(make, data) == "already-initialised"
        assert {path: path.read_bytes() for path in before} == before

    @pytest.mark.parametrize("left", ["tallystick.sqlite-journal", ".keyset.tally.1a2b", ".settings.toml.1a2b"])
    def test_an_init_that_lost_its_power_anywhere_can_be_run_again(self, tmp_path, left):
        (tmp_path / left).write_bytes(b"")
        make(tmp_path)
        assert not (tmp_path / left).exists()

    def test_a_directory_with_other_files_is_refused(self, tmp_path):
        (tmp_path / "letter.txt").touch()
        assert code_of(make, tmp_path) == "already-initialised"
        assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]

    def test_an_init_that_broke_off_can_be_run_again(self, tmp_path, monkeypatch):
        def break_off(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(instance, "save_file", break_off)
            with pytest.raises(KeyboardInterrupt):
                make(tmp_path / "a")
        assert code_of(open_activation, tmp_path / "a") == "not-initialised"
        make(tmp_path / "a")
        open_activation(tmp_path / "a").close()

    @pytest.mark.parametrize("policy", [Policy(waiting_days=-1), Policy(lost_per_year=-1), Policy(waiting_days=10**6)])
    def test_a_policy_that_cannot_be_is_refused(self, tmp_path, policy):
        assert code_of(make, tmp_path / "a", policy=policy) == "settings-wrong"
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("issuer", ["", " ", "x" * 129, "a\nb"])
    def test_a_name_that_is_none_is_refused(self, tmp_path, issuer):
        assert code_of(make, tmp_path / "a", issuer=issuer) == "text-wrong"

    def test_a_file_in_the_place_of_the_directory_is_named(self, tmp_path):
        (tmp_path / "a").touch()
        assert code_of(make, tmp_path / "a") in {"disk-failed", "not-found"}
        assert code_of(open_activation, tmp_path / "a") == "not-initialised"

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('issuer = "Example"', 'issuer = "Other"'),
            ('issuer = "Example"', "issuer = 5"),
            ('issuer = "Example"', ""),
            ('enrolment = "open"', 'enrolment = "shut"'),
            ("waiting_days = 14", "waiting_days = 1.5"),
            ("waiting_days = 14", "waiting_days = true"),
            ("waiting_days = 14", "waiting_days = -1"),
            ("lost_per_year = 3", "lost_per_year ="),
            ("lost_per_year = 3", "other = 3"),
            ("lost_per_year = 3", "database = 3"),
        ],
    )
    def test_settings_that_are_wrong_are_named(self, tmp_path, old, new):
        data = make(tmp_path / "a")
        text = (data / "settings.toml").read_text()
        assert old in text
        (data / "settings.toml").write_text(text.replace(old, new))
        assert code_of(open_activation, data) == "settings-wrong"
