import os

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(7)


@tf.function
def infer(x):
    return tf.reduce_sum(tf.matmul(x, x))


while True:
    infer(tf.ones((64, 64)))
