"""What survives a restart: the secrets, the nonces seen, and the winners not yet redeemed."""

import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS secret (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS nonce (
    recipient_rand_hash BLOB, nonce INTEGER, expiration_block INTEGER NOT NULL,
    PRIMARY KEY (recipient_rand_hash, nonce)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS winner (ticket_hash BLOB PRIMARY KEY, document TEXT NOT NULL);
"""


class Store:
    """One file, written by the event loop's thread only."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(directory / "orchestrator.sqlite", isolation_level=None)
        self._db.executescript(SCHEMA)
        # Survives the end of the process, which is all a local world needs.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")

    def secret(self, name: str) -> bytes:
        """Return the secret of this name, made on first use."""
        self._db.execute(
            "INSERT INTO secret VALUES (?, ?) ON CONFLICT DO NOTHING",
            (name, secrets.token_bytes(32)),
        )
        row = self._db.execute("SELECT value FROM secret WHERE name = ?", (name,)).fetchone()
        return bytes(row[0])

    def renew_secret(self, name: str) -> bytes:
        """Return another secret from now on."""
        self._db.execute("DELETE FROM secret WHERE name = ?", (name,))
        return self.secret(name)

    def add_nonce(self, rand_hash: bytes, nonce: int, expiration_block: int) -> None:
        self._db.execute("REPLACE INTO nonce VALUES (?, ?, ?)", (rand_hash, nonce, expiration_block))

    def nonces(self) -> Iterator[tuple[bytes, int, int]]:
        return self._db.execute("SELECT recipient_rand_hash, nonce, expiration_block FROM nonce")

    def forget_expired_nonces(self, l1_block: int) -> None:
        self._db.execute("DELETE FROM nonce WHERE expiration_block <= ?", (l1_block,))

    def forget_nonces(self) -> None:
        self._db.execute("DELETE FROM nonce")

    def save_winner(self, ticket_hash: bytes, document: str) -> None:
        self._db.execute(
            "INSERT INTO winner VALUES (?, ?)"
            " ON CONFLICT (ticket_hash) DO UPDATE SET document = excluded.document",
            (ticket_hash, document),
        )

    def winners(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT document FROM winner ORDER BY rowid")]

    def close(self) -> None:
        self._db.close()
