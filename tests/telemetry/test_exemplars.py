"""From a number to the trace behind it."""

from tests.telemetry.scrapes import OPENMETRICS, parse, scrape
from tests.telemetry.traced import traced


def test_times_lead_to_traces(database_url: str) -> None:
    """Requests, statements and waits of a sampled trace carry its id, as OpenMetrics alone can say."""
    with traced(database_url, 1) as (client, traces):
        client.get("/api/examples")
        exemplars = {s.name: s.exemplar.labels for s in scrape(client).samples if s.exemplar}
        plain = client.get("/metrics")
    assert exemplars.keys() == {
        "http_request_duration_seconds_bucket",
        "db_client_operation_duration_seconds_bucket",
        "db_client_connection_wait_seconds_bucket",
    }
    assert all(labels.keys() == {"trace_id"} and labels["trace_id"] in traces for labels in exemplars.values())
    assert parse(plain)
    assert "trace_id" not in plain.text


def test_what_is_not_sampled_is_no_exemplar(database_url: str) -> None:
    """Nothing leads to a trace that nobody kept."""
    with traced(database_url, 0) as (client, _):
        client.get("/api/examples")
        assert "trace_id" not in client.get("/metrics", headers=OPENMETRICS).text
