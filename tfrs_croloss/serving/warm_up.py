"""Requests that TensorFlow Serving answers to itself before a version takes traffic."""

from tfrs_croloss.retrieval.requirements import tf

# Where TensorFlow Serving looks, as TFRecord.
FILE = "assets.extra/tf_serving_warmup_requests"
# Batches of these sizes: what is made for the first request of a shape is made then.
BATCHES = (1, 32)


def write_warm_up(folder, name, signatures):
    """Writes a request of each size for each signature.

    Args:
        folder: `pathlib.Path` of the SavedModel.
        name: Name of the model.
        signatures: Functions by name, with an input signature.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    (folder / FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for signature, function in signatures.items():
            for batch in BATCHES:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = name
                request.model_spec.signature_name = signature
                for spec in function.input_signature:
                    if not spec.shape.rank:
                        continue  # `k` has a default
                    size = [batch, *(1 if n is None else n for n in spec.shape[1:])]
                    request.inputs[spec.name].CopyFrom(
                        tf.make_tensor_proto(tf.zeros(size, spec.dtype))
                    )
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
