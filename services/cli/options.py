"""Arguments and options that several commands take."""

from typing import Annotated

import typer

AccountId = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The id of an API key: twelve letters and digits.")]
Json = Annotated[bool, typer.Option("--json", help="JSON lines; on stderr what went wrong.")]
Actor = Annotated[str, typer.Option(metavar="ID", help="Who asks: an id that says nothing about a person.")]
Reason = Annotated[str, typer.Option(metavar="CODE", help="Why: a code such as unpaid or abuse.")]
User = Annotated[str | None, typer.Option(metavar="ID", help="Of this user of the account.")]
Key = Annotated[str | None, typer.Option(metavar="ID", help="Of this API key of the account.")]
ExpiresAt = Annotated[
    str | None, typer.Option(metavar="TIME", help="Until then, such as 2031-05-17T08:30:00Z.")
]
Payer = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Whose deposit its next keys pay from: 0x and 40 digits."),
]

ACTOR = "cli"
REASON = "unspecified"
