"""Traces, metrics and logs: what a request did, how often that happens, and where all of it goes.

Only this package imports the OpenTelemetry SDK or prometheus_client. OpenTelemetry's packages read OTEL_* as they are
imported, and raise for some.
"""
