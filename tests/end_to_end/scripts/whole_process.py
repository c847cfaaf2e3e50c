import tensorflow as tf

total = tf.constant(0.0)
for _ in range(100):
    total = total + tf.reduce_sum(tf.ones((10, 10)))
print(float(total))
