"""Official definitions of the scores, counts first; no torch in here."""
