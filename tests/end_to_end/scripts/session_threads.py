import tensorflow.compat.v1 as tf

tf.disable_eager_execution()
from autotuner import step

config = tf.ConfigProto(inter_op_parallelism_threads=1, intra_op_parallelism_threads=1)
result = tf.reduce_sum(tf.matmul(tf.ones((64, 64)), tf.ones((64, 64))))
with tf.Session(config=config) as session:
    while True:
        session.run(result)
        step()
