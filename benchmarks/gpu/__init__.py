"""The queue of everything that needs a CUDA device: `make gpu`, or `python -m benchmarks.gpu` from the root.

Each task runs in a process of its own, bounded in time, and writes one JSON record to `experiments/records/gpu/`. A
task whose record is there is skipped, so an interrupted queue goes on where it stopped; `--again TASK` runs one anew.
A long task runs in pieces: `--seconds N` ends this call of the queue after about N seconds, and the next one goes on;
`--archive FILE` packs what it goes on from. Needs torch, numpy, safetensors, lazy_loader, pyarrow and pillow; what a
task needs beside them and does not find, the queue says. Data are read from LOWBIT_DATA. `--list` shows the queue.
"""
