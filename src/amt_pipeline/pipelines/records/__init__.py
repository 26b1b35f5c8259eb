"""`export_tfrecords`: the windows of both tasks as TFRecords."""
