"""Prometheus metrics: the one place where their names, labels and buckets are told."""

from prometheus_client import Counter, Gauge, Histogram

BATCH_SIZES = (1, 2, 4, 8, 16, 24, 32, 64, 128, 256, 512)
LATENCIES = (0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5, 1, 2, 5)

batch_size = Histogram(
    "clearinghouse_batch_size", "Requests or events in one commit", ["what"], buckets=BATCH_SIZES
)
answers_total = Counter(
    "clearinghouse_answers_total", "Answers given, by kind and reason", ["what", "reason"]
)
request_seconds = Histogram(
    "clearinghouse_request_seconds", "From request to answer", ["what"], buckets=LATENCIES
)
edge_capped_requests_total = Counter(
    "edge_capped_requests_total", "Requests over a cap of the edge itself, by cap", ["cap"]
)
relayed_total = Counter("clearinghouse_relayed_events_total", "Events published from the log")
relay_position = Gauge("clearinghouse_relay_position", "Position published last")
inbox_position = Gauge("clearinghouse_inbox_position", "Position applied last, by publisher", ["publisher"])
inbox_gaps_total = Counter(
    "clearinghouse_inbox_gaps_total", "Gaps in a stream filled from the log", ["publisher"]
)
inbox_altered_total = Counter(
    "clearinghouse_inbox_altered_entries_total",
    "Entries whose checksum does not fit, read from the log instead",
    ["publisher"],
)
dead_letters_total = Counter("clearinghouse_dead_letters_total", "Messages buried", ["publisher"])
dead_letters_waiting = Gauge("clearinghouse_dead_letters_waiting", "Dead letters that wait", ["reader"])
signed_wei_total = Counter("signer_signed_wei_total", "Cost of the tickets signed, in wei")
signed_tickets_total = Counter("signer_signed_tickets_total", "Tickets signed")
discovery_sweep_seconds = Histogram(
    "discovery_sweep_seconds", "From asking all orchestrators to their answers", buckets=LATENCIES
)
discovery_answers_total = Counter(
    "discovery_answers_total", "Orchestrators asked, by what came of it", ["outcome"]
)
discovery_listed = Gauge("discovery_listed_orchestrators", "Addresses in the last snapshot")
discovery_runners = Gauge("discovery_listed_runners", "Runners in the last snapshot")
discovery_runners_refused_total = Counter(
    "discovery_refused_runners_total", "Runners left out of a snapshot, by reason", ["reason"]
)
redemptions_total = Counter(
    "deposit_watcher_redemptions_total", "Redeemed tickets judged, by what they are to us", ["kind"]
)
redemptions_pending = Gauge(
    "deposit_watcher_pending_redemptions", "Redeemed tickets not found in the signer's log yet"
)
