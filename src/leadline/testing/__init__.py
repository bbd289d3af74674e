"""Proof that the verdicts are right: data and small transformers with known answers, and the bench that runs them.

`planted` makes arrays with their truth, `planted_models` transformers with hand-set weights; `cases` and `nulls` are
the tables of what is run, `judge` holds Leadline's verdicts against the truth, `peer` does what the field does, and
`evidence_bench` runs all of it over processes. Nothing of the library but the command line imports this room.
"""
