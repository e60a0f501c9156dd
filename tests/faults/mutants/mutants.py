"""The rules that are broken on purpose, and the tests that have to notice.

`old` stands once in `path`; in its place comes `new`. The name says what the broken code does.
"""

from dataclasses import dataclass

CRASHES = ("tests/faults/crashes",)
RACES = ("tests/faults/races",)
CHAIN = ("tests/faults/chain",)
INTERLEAVINGS = ("tests/property/test_interleavings.py",)
REPLICAS = ("tests/integration/test_replicas.py",)
STORE = ("tests/integration/test_store.py",)
SIGNER = ("tests/unit/signer",)
AUTH = ("tests/unit/edge/test_auth.py",)
GATHER = ("tests/unit/edge/test_gather.py", "tests/unit/edge/test_gather_bounds.py")
QUOTA = ("tests/unit/quota", "tests/property/test_interleavings.py")
CANARIES = ("tests/faults/secrets/test_canaries.py",)
CONNECTIONS = ("tests/faults/hangs/test_connections.py",)
EPOCHS = ("tests/integration/test_epochs.py",)
PERMISSIONS = ("tests/integration/test_permissions.py",)
SUB_BUDGETS = ("tests/unit/quota/test_sub_budgets.py",)
RULES_WRITER = ("tests/integration/test_rules_writer.py",)
DELIVERIES = ("tests/property/test_stream_properties.py", "tests/integration/test_stream_races.py")


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = [
    Mutant(
        "releases tickets although the commit failed",
        "services/signer/application.py",
        "        except BaseException:\n            batch.forget()\n            raise\n",
        "        except PersistenceError:\n            batch.forget()\n",
        SIGNER,
    ),
    Mutant(
        "does without the unique key of the event store",
        "shared/store.py",
        '" FROM unnest(%b::uuid[], %b::bigint[]) AS base (id, version))"\n',
        '" FROM unnest(%b::uuid[], %b::bigint[]) AS base (id, version)) ON CONFLICT DO NOTHING"\n',
        REPLICAS,
    ),
    Mutant(
        "writes to the log without its lock",
        "shared/store.py",
        "(SELECT pg_advisory_xact_lock(hashtext({2})))",
        "(SELECT hashtext({2}))",
        STORE,
    ),
    Mutant(
        "keeps in memory what may not be stored",
        "services/quota/application.py",
        "                except BaseException:\n"
        "                    work.forget()\n"
        "                    raise\n",
        "                except BaseException:\n                    raise\n",
        REPLICAS,
    ),
    Mutant(
        "skips the check of positions",
        "shared/inbox.py",
        "            if entry.previous_position != position:\n"
        "                break  # the next step finds the gap\n",
        "",
        CHAIN,
    ),
    Mutant(
        "believes an entry that was altered on the way",
        "shared/inbox.py",
        "told is not None and told != checksum(message.data)",
        "False",
        CHAIN,
    ),
    Mutant(
        "moves its position before the effect",
        "shared/inbox.py",
        "        done = _all_of([advance, *effects, ",
        "        self._application.recorder.insert_events([], effects=[advance])\n"
        "        done = _all_of([*effects, ",
        CHAIN,
    ),
    Mutant(
        "begins nonces anew",
        "services/signer/domain/sequence.py",
        "        self.last = first + count - 1",
        "        self.last = 0",
        SIGNER,
    ),
    Mutant(
        "signs what another signer has taken nonces for",
        "services/signer/application.py",
        "            batch.forget()\n            raise\n        self._note_signed",
        "            raise\n        self._note_signed",
        REPLICAS,
    ),
    Mutant(
        "frees allowances by time alone",
        "services/quota/application.py",
        "        if (before := budget.granted_before(ask)) is not None:",
        "        for other in [held for held in budget.sessions if held != ask.session_id]:\n"
        "            budget.free(other, 10**9, now)\n"
        "        if (before := budget.granted_before(ask)) is not None:",
        QUOTA,
    ),
    Mutant(
        "grants a repeated ask again",
        "services/quota/application.py",
        "        if (before := budget.granted_before(ask)) is not None:",
        "        if (before := None) is not None:",
        QUOTA,
    ),
    Mutant(
        "gives money back for a reply that was lost",
        "services/signer/domain/session.py",
        "        self.spent = Wei(self.spent + cost)\n",
        "        self.spent = Wei(self.spent + (0 if lost else cost))\n",
        SIGNER,
    ),
    Mutant(
        "does not take allowances back when an account is suspended",
        "services/quota/application.py",
        "                work.effects.append(self.allowances.withdraw(budget.account_id))\n",
        "",
        REPLICAS,
    ),
    Mutant(
        "counts money in floats",
        "shared/money.py",
        "    return Wei(-(-face_value * win_prob * tickets // CERTAIN))",
        "    return Wei(int(face_value * (win_prob / CERTAIN) * tickets))",
        SIGNER,
    ),
    Mutant(
        "writes the API key to its log",
        "services/edge/gate.py",
        '            account_id=scope.get("account_id"),\n',
        '            account_id=scope.get("account_id"),\n'
        '            shown=dict(scope["headers"]).get(b"authorization", b"").decode("latin-1"),\n',
        CANARIES,
    ),
    Mutant(
        "trusts the sequence that a client's state tells",
        "services/signer/continuity.py",
        "    return reference.sequence == session.sequence - 1 and intent.digest != session.last_digest",
        "    session.sequence = reference.sequence\n    return False",
        SIGNER,
    ),
    Mutant(
        "pays a late copy of a request again",
        "services/signer/domain/session.py",
        "        return digest != self.last_digest and digest in self.digests if self.paid else False",
        "        return False",
        SIGNER,
    ),
    Mutant(
        "lets keys in that were revoked meanwhile",
        "services/edge/auth.py",
        "        if self._bucket.get(identity.key_id) is not entry or (until and ",
        "        if (until and ",
        AUTH,
    ),
    Mutant(
        "answers from a copy of the identities that is not complete",
        "services/edge/auth.py",
        "            raise UnknownKey\n        if not self._bucket.ready:\n",
        "            raise UnknownKey\n        if self._bucket is None:\n",
        AUTH,
    ),
    Mutant(
        "covers more than the deposit",
        "services/quota/domain/pool.py",
        "        if self.exposure + amount > self.cover:\n",
        "        if self.held + amount > self.cover:\n",
        QUOTA,
    ),
    Mutant(
        "spends the last of a budget twice",
        "services/quota/domain/granting.py",
        "        if needed > standing.remaining:\n",
        "        if needed > standing.limit - standing.spent:\n",
        QUOTA,
    ),
    Mutant(
        "counts spend in the wrong window",
        "services/quota/domain/spending.py",
        "        if start == spending[kind][0]:\n",
        "        if start <= spending[kind][0]:\n",
        QUOTA,
    ),
    Mutant(
        "ignores a user's limit",
        "services/quota/work.py",
        "            if self.limits(scope).count_spend:\n",
        '            if self.limits(scope).count_spend and scope.level != "user":\n',
        QUOTA,
    ),
    Mutant(
        "forgets to take back leases when a limit is lowered",
        "services/quota/limiting.py",
        "        if tightens(before, work.limits(scope)):\n",
        "        if tightens(before, before):\n",
        REPLICAS,
    ),
    Mutant(
        "ignores a stop",
        "services/signer/watched_rules.py",
        "if (stop := _stop(what, value, look))]",
        'if what != "account" and (stop := _stop(what, value, look))]',
        SIGNER,
    ),
    Mutant(
        "lets a token outlive its key",
        "services/edge/auth.py",
        "        _require_active(identity)\n        if entry is not None and header",
        "        if token is None:\n            _require_active(identity)\n"
        "        if entry is not None and header",
        AUTH,
    ),
    Mutant(
        "does not tell a close again that quota goes on asking for",
        "services/signer/domain/session.py",
        "        if not is_told or not self._closed_lately(now):\n",
        "        if not is_told:\n",
        SIGNER,
    ),
    Mutant(
        "asks nobody else when a signer is silent",
        "services/edge/line.py",
        "        return batch.asked + 1 >= len(self.subjects)\n",
        "        return True\n",
        GATHER,
    ),
    Mutant(
        "waits for a store that hangs",
        "shared/connections.py",
        "            timeout = max(0.0, self.deadline - time.monotonic())\n",
        "            timeout = None\n",
        CONNECTIONS,
    ),
    Mutant(
        "signs on a log that went back, without a new epoch",
        "shared/relay.py",
        '            return "the stream is ahead of the log"\n',
        "            return None\n",
        EPOCHS,
    ),
    Mutant(
        "lets a bucket's owner read it",
        "contracts/streams.py",
        'publish += [f"$KV.{bucket}.>", f"$JS.API.STREAM.PURGE.KV_{bucket}"]',
        'publish += [f"$KV.{bucket}.>", f"$JS.API.STREAM.PURGE.KV_{bucket}", *_read_bucket(bucket)]',
        PERMISSIONS,
    ),
    Mutant(
        "counts a session for ever that has spent its lease to the last wei",
        "services/quota/domain/sub_budget.py",
        "        if self.sessions.get(session_id) != (amount or None):",
        "        if self.sessions.get(session_id, 0) != amount:",
        SUB_BUDGETS,
    ),
    Mutant(
        "does not count what a session brings along under a user's limit",
        "services/quota/work.py",
        "replace(self.conditions(scope), brought=brought)",
        "replace(self.conditions(scope), brought=Wei(brought * 0))",
        SUB_BUDGETS,
    ),
    Mutant(
        "decides by limits that were read before the budget",
        "services/quota/application.py",
        "        for known in budgets - self.absent(budgets):\n            self.repository.get(known)\n",
        "",
        REPLICAS,
    ),
    Mutant(
        "stores nothing when limits tighten while nothing is held",
        "services/quota/domain/budget.py",
        '        if scope.level != "token" or any(',
        "        if any(",
        REPLICAS,
    ),
    Mutant(
        "shows an empty list of stops before the table was read",
        "services/quota/rules.py",
        "        await self._read.wait()\n",
        "",
        RULES_WRITER,
    ),
    Mutant(
        "gives a command the answers of another one that waited with it",
        "services/quota/together.py",
        "                command.finish([next(answers) for _ in command.questions])\n",
        "                command.finish(list(answers)[: len(command.questions)] or [Wei(0)])\n",
        ("tests/unit/quota/test_together.py",),
    ),
    Mutant(
        "counts a delivery again that came before",
        "services/metering/streaming.py",
        "if arrival.key not in known}",
        "}",
        DELIVERIES,
    ),
]
