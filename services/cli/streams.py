"""`clearinghouse streams`: those that run, and how to end one."""

from typing import Annotated

import typer

from contracts.metered_streams import MeteredStreamView, ReadMeteredStream
from contracts.stream_starts import EndStream, ListStreams, StreamPage, StreamView
from services.cli import options
from services.cli.house import House
from services.cli.limits import require_account
from services.cli.printing import Columns, print_line, print_rows
from services.cli.running import run
from services.cli.saying import made
from services.cli.stream_telling import tell

PAGE = 500

app = typer.Typer(no_args_is_help=True, help="Media streams that hold a place of an account's limit.")


@app.command("list")
def list_streams(account_id: options.AccountId, *, json: options.Json = False) -> None:
    """List an account's streams that run, by id."""

    async def work(house: House) -> None:
        await require_account(house, account_id)
        found: list[StreamView] = []
        while True:
            after = found[-1].stream_id if found else ""
            asked = ListStreams(account_id=account_id, after=after, limit=PAGE)
            page = (await house.ask(asked, StreamPage)).streams
            found += page
            if len(page) < PAGE:
                break
        _show(found, json=json)

    run(work, json=json)


@app.command("end")
def end_stream(
    account_id: options.AccountId,
    stream_id: Annotated[str, typer.Argument(metavar="STREAM", help="The stream's id.")],
    *,
    json: options.Json = False,
) -> None:
    """End a stream: its place is free."""
    command = made(EndStream, account_id=account_id, stream_id=stream_id)

    async def work(house: House) -> None:
        await require_account(house, account_id)
        _show([await house.ask(command, StreamView)], json=json)

    run(work, json=json)


@app.command()
def show(
    account_id: options.AccountId,
    stream_id: Annotated[str, typer.Argument(metavar="STREAM", help="The stream's id.")],
    *,
    json: options.Json = False,
) -> None:
    """Show how long a stream ran, what it cost, and why it stopped."""
    command = made(ReadMeteredStream, account_id=account_id, stream_id=stream_id)

    async def work(house: House) -> None:
        await require_account(house, account_id)
        view = await house.ask(command, MeteredStreamView)
        if json:
            print_line(view.model_dump_json())
        else:
            tell(view)

    run(work, json=json)


def _show(streams: list[StreamView], *, json: bool) -> None:
    print_rows([(stream, _columns(stream)) for stream in streams], json=json, nothing="no streams")


def _columns(stream: StreamView) -> Columns:
    return {
        "stream": stream.stream_id,
        "user": stream.user_id,
        "app": stream.app,
        "job type": stream.job_type,
        "begun": stream.begun_at,
        "lease ends": stream.lease_ends_at,
        "ended": stream.ended_at,
    }
