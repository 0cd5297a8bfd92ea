"""The benchmark suite: `scripts/bench`, described in docs/benchmarks.md.

groups.py        every group by its name, and what it must reach
training/        a step of training, and its memory: contenders in one table, one file per way to train
serving_batch/   rows of many tasks in one batch
trials/          ways to be faster that are tried, beside what there is
startup.py       from the command line to the first answer
elsewhere.py     measurements that are programs of their own

pretrained.py    the model that everyone is given
timing.py        contenders that take turns
workers.py       contenders in processes of their own, and the Python environments of peers
worker.py        what runs in such a process
machine.py       what it all ran on
targets.py       what is asked for, and the arithmetic of it
report.py        tables and pictures from the results
"""
