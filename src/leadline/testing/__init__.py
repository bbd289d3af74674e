"""Proof that the verdicts are right: data and small transformers with known answers, and the bench that runs them.

`planted` makes arrays with their truth, `planted_models` transformers with hand-set weights; `cases` and `nulls` are
the tables of what is run, `judge` holds Leadline's verdicts against the truth, `peer` does what the field does, and
`evidence_bench` runs all of it over processes. `hand_set` and `planted_causal` make transformers that use a concept, or
only seem to; `causal_judge` and `causal_bench` hold "used" and "where from" against them. Nothing of the library but
the command line imports this room.
"""
