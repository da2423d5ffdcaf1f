# Makes lstm.keras, and says what Keras computes with it. The committed file: keras 3.15.1, tensorflow-cpu 2.21.0.
import keras
import numpy as np

keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(8), keras.layers.Dense(2)])
model.save("lstm.keras")
x = np.arange(15, dtype=np.float32).reshape(1, 5, 3) / 15
print("lstm.keras", *model.predict(x, verbose=0)[0])
