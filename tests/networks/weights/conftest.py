import os

# Keras takes its backend from here, once, when it is first imported.
os.environ["KERAS_BACKEND"] = "torch"
