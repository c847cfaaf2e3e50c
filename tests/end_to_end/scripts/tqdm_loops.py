import types

# a progress bar as tqdm is one: installed among the libraries, wrapping the loop
import sysconfig

source = "def bar(iterable):\n    for item in iterable:\n        yield item\n"
bars = types.ModuleType("bars")
exec(compile(source, sysconfig.get_paths()["purelib"] + "/bars.py", "exec"), bars.__dict__)

import tensorflow as tf

data = tf.data.Dataset.range(200_000).batch(20)
validation = tf.data.Dataset.range(2_000).batch(4)
first = next(iter(data))  # a look at the data
kept = iter(validation)  # an iterator that is kept and not used up
next(kept)
while True:
    for batch in bars.bar(data):
        tf.reduce_sum(batch)
    for batch in bars.bar(validation):
        tf.reduce_sum(batch)
