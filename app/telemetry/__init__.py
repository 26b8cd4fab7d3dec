"""Traces and logs: what a request did and why it took so long, and where both go.

Only this package imports the OpenTelemetry SDK. The packages read OTEL_* as they are imported, and raise for some.
"""
