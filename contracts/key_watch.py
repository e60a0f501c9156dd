"""What is noticed of an API key: from where it is used, whom it pays, and what of that is an alarm."""

from datetime import date, datetime
from typing import ClassVar, Literal

from pydantic import Field

from contracts.limits import Alarm, Network
from contracts.message import Command, Event, Message, WeiText

SIGHTINGS_MAX = 100  # of one command


class NetworkSighting(Message):
    """A request with this key was let in from this network: a /24 of IPv4, a /48 of IPv6."""

    account_id: str
    key_id: str
    network: Network


class ReportNetworks(Command):
    """What an edge has seen; it tells each once a day at least, and more often changes nothing."""

    subject: ClassVar[str] = "cmd.quota.report_networks.v1"

    sightings: list[NetworkSighting] = Field(min_length=1, max_length=SIGHTINGS_MAX)


class NetworksReported(Message):
    kind: Literal["networks_reported"] = "networks_reported"


class ReadKeyActivity(Command):
    subject: ClassVar[str] = "cmd.quota.read_key_activity.v1"

    account_id: str
    key_id: str


class NetworkRow(Message):
    """Seen at most once a UTC day: `last_seen_at` is the first time on the last such day."""

    network: str
    first_seen_at: datetime
    last_seen_at: datetime


class RecipientRow(Message):
    """As `NetworkRow`."""

    recipient: str
    first_seen_at: datetime
    last_seen_at: datetime


class HighestHour(Message):
    """The most that was spent in one hour of a UTC day."""

    day: date
    spent_wei: WeiText


class AlarmRow(Message):
    """`value` is the network or the recipient; the amounts are of an alarm of spend.

    `usual_wei` is the highest hour of the seven days before.
    """

    at: datetime
    alarm: Alarm
    value: str
    spent_wei: WeiText | None
    usual_wei: WeiText | None
    held: bool


class KeyStop(Message):
    """Why nothing is signed for the key; until it is lifted, or `expires_at`."""

    reason: str
    set_at: datetime
    expires_at: datetime | None


class KeyActivity(Message):
    """Lists begin with what was seen, spent or raised last."""

    kind: Literal["key_activity"] = "key_activity"
    account_id: str
    key_id: str
    networks: list[NetworkRow]
    recipients: list[RecipientRow]
    spent_this_hour_wei: WeiText
    highest_hours: list[HighestHour]
    alarms: list[AlarmRow]
    stop: KeyStop | None


class KeyAlarmRaised(Event):
    """A key does what it did not do before: `value` is the network or recipient, amounts are of spend.

    `usual_wei` is the highest hour of the seven days before. `held`: the alarm has stopped the key.
    """

    subject: ClassVar[str] = "evt.quota.key_alarm_raised.v1"

    account_id: str
    key_id: str
    alarm: Alarm
    value: str
    spent_wei: WeiText | None
    usual_wei: WeiText | None
    held: bool
