"""`uservlm users`: who is kept on this disk, what of them, until when, and how it is erased.

Owns: the options of the four commands and what they print. Knows nothing of files and keys; loads
no model. A folder without a store is left as it is: looking makes none.

    uservlm users list [--json]      one line, or one JSON object, for each user
    uservlm users show NAME [--json]
    uservlm users forget NAME        everything of them, at once
    uservlm users purge              whoever's consent has run out
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from uservlm.runtime.errors import UnknownUserError
from uservlm.runtime.profiles import Keeps, Profile, as_record
from uservlm.runtime.vault import FOLDER_VARIABLE, Vault, users_folder

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_TITLES = ("name", "seen", "expires", "consent", "keeps", "bytes")


def add_parser(commands: Commands) -> None:
    """Add `users` and what belongs to it to a command line; each sets `run`."""
    users = commands.add_parser(
        "users", help="list, show or forget people", description=__doc__.partition("\n")[0]
    )
    of_users = users.add_subparsers(required=True, metavar="list|show|forget|purge")
    for run, text in (
        (list_users, "everybody kept"),
        (show, "one user"),
        (forget, "erase one user"),
        (purge, "erase whoever's consent has run out"),
    ):
        name = run.__name__.partition("_")[0]
        one = of_users.add_parser(name, help=text, description=run.__doc__)
        if run in (show, forget):
            one.add_argument("name", metavar="NAME")
        one.add_argument(
            "--users", metavar="DIR", help=f"default: {FOLDER_VARIABLE}, else the system's place"
        )
        one.add_argument("--json", action="store_true", help="print JSON, one object a line")
        one.set_defaults(run=run)


def list_users(options: argparse.Namespace) -> None:
    """List who is kept, when seen, until when, by which consent, and how many bytes."""
    vault = _vault(options)
    people = [(one, vault.sizes(one.name)) for one in vault.profiles()] if vault else []
    if options.json:
        for profile, sizes in people:
            _print_json(_record(profile, sizes))
    elif people:
        _print_table([_TITLES, *(_row(profile, sizes) for profile, sizes in people)])
    else:
        print(f"nobody is kept in {users_folder(options.users)}")
    _report(vault)


def show(options: argparse.Namespace) -> None:
    """Show everything the store knows of one user, but the embedding and the state themselves."""
    vault = _vault(options)
    profile = vault.profile(options.name) if vault else None
    _report(vault)
    if vault is None or profile is None:
        raise _unknown(vault, options)
    record = _record(profile, vault.sizes(options.name))
    if options.json:
        _print_json(record)
        return
    consent, sizes = record.pop("consent"), record.pop("bytes")
    record |= {f"consent {key}": value for key, value in consent.items()}
    record |= {f"bytes of {kind}": count for kind, count in sizes.items()}
    width = max(map(len, record))
    for key, value in record.items():
        print(f"{key:{width}}  {_shown('never' if value is None else str(value))}")


def forget(options: argparse.Namespace) -> None:
    """Erase a user: profile, embedding, state. A running engine lets go at their next question."""
    vault = _vault(options)
    gone = vault is not None and vault.forget(options.name)
    _report(vault)
    if not gone:
        raise _unknown(vault, options)
    _tell(options, (options.name,))


def purge(options: argparse.Namespace) -> None:
    """Erase whoever's consent has run out, and what killed processes left behind."""
    vault = _vault(options, purge=False)
    gone = vault.purge() if vault else ()
    _report(vault)
    _tell(options, gone)


def _vault(options: argparse.Namespace, purge: bool = True) -> Vault | None:
    folder = users_folder(options.users)
    return Vault.open(folder, purge=purge) if Vault.exists(folder) else None


def _unknown(vault: Vault | None, options: argparse.Namespace) -> UnknownUserError:
    known = ", ".join(_shown(one.name) for one in vault.profiles()) if vault else ""
    return UnknownUserError(
        f"no user {_shown(options.name)!r} is kept in {users_folder(options.users)}; "
        f"known: {known or 'nobody'}"
    )


def _record(profile: Profile, sizes: dict[Keeps, int]) -> dict[str, Any]:
    expires = profile.expires.isoformat() if profile.expires else None
    return {**as_record(profile), "expires": expires, "bytes": sizes}


def _row(profile: Profile, sizes: dict[Keeps, int]) -> tuple[str, ...]:
    return (
        _shown(profile.name),
        f"{profile.seen:%Y-%m-%d %H:%M}Z",
        f"{profile.expires:%Y-%m-%d}" if profile.expires else "never",
        _shown(profile.consent.how),
        profile.consent.keeps,
        f"{sum(sizes.values()):,}",
    )


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _tell(options: argparse.Namespace, names: tuple[str, ...]) -> None:
    if options.json:
        _print_json({"forgotten": names})
    else:
        print(f"forgotten: {', '.join(map(_shown, names)) or 'nobody'}")


def _report(vault: Vault | None) -> None:
    """Say on stderr which files were not believed."""
    for one in vault.refused if vault else ():
        print(f"uservlm: {one.file} was removed: {one.reason}", file=sys.stderr)


def _shown(text: str) -> str:
    """Give text without what would steer a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _print_json(record: dict[str, Any]) -> None:
    print(json.dumps(record, ensure_ascii=False))
