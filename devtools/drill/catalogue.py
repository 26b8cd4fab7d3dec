"""All incidents, by their names."""

from devtools.drill import callers, database, identity, process, resources, server, telemetry
from devtools.drill.incident import Incident

AREAS = (process, database, server, callers, identity, telemetry, resources)
INCIDENTS: dict[str, Incident] = {incident.name: incident for area in AREAS for incident in area.INCIDENTS}
