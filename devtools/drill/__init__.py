"""Incidents to practise on: each is made on purpose, alerted, led to its cause by the runbook, and taken back.

`python -m devtools drill list` names them. `make drill` makes each of them on servers of its own, in seconds where the
rules say minutes, and judges what Prometheus, the runbook's queries, the spans and the log lines say (tests/drills).

To add one:

1. Write an `Incident` in the module of its area (`database.py`, `callers.py` and so on), and name it
   in that module's `INCIDENTS`. The field `inject` is a context manager on a `Target`. Its end takes everything back.
   What would stay behind after a SIGKILL goes through `Target.altered`, `Target.session` or `Target.change`.
2. A fault of code is a route in `faults.py`, which only the drill's own server has; `load` asks for it.
3. `python -m pytest tests/drills -n 0 -k NAME` judges it. Then see it red: break a sign, a step or the rule.
4. `make drill ARGS=--write` writes the table in `docs/observe.md`.

If a rule needs a time that is no minute, hour or day (`> 300`), see tests/observability/pace.py.
"""
