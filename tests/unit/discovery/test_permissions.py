"""What discovery may say on the bus: of all that there is, two things."""

from contracts.signer import SignOrchestratorInfo
from contracts.streams import permissions_of


def test_it_asks_for_our_address_and_writes_its_bucket_and_no_more() -> None:
    may = permissions_of("discovery")

    commands = [subject for subject in may.publish if subject.startswith("cmd.")]
    written = [subject for subject in may.publish if subject.startswith(("$KV.", "evt."))]
    assert commands == [SignOrchestratorInfo.subject]
    assert written == ["$KV.orchestrators.>"]
    assert may.subscribe == ("_INBOX_discovery.>",)
    assert not may.responds


def test_only_the_edge_reads_what_it_found() -> None:
    stream = "$JS.API.STREAM.INFO.KV_orchestrators"

    assert stream in permissions_of("edge").publish
    assert stream not in permissions_of("signer").publish
    assert "$KV.orchestrators.>" not in permissions_of("edge").publish
