import atexit
from pathlib import Path

import tensorflow as tf

marker = Path("marker").absolute()
atexit.register(lambda: marker.with_suffix(".atexit").write_text("ran"))
step = tf.function(lambda x: x + 1.0)
try:
    while True:
        try:
            step(tf.constant(1.0))
        except Exception:
            raise SystemExit(9) from None
finally:
    marker.write_text("ran")
