"""What might make a prompted backbone faster, each beside Foreword as it is.

work.py       what every trial is given
whole.py      one padded batch: compiled, narrower weights, exported
packed.py     rows of mixed lengths without padding
steps.py      a step of training
measure.py    the group: trials by their names, taking turns
"""
